"""Pairs of pictures from clips that nobody labelled, and batches of them among a renderer's.

A clip is a folder of pictures of one head, cut square around it as `vivant.face.crop` cuts. A folder of one picture is
a clip of one frame, as in the paper. Item k is a whole micro-batch and a pure function of (seed, rank, k).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.errors import InputError
from vivant.media.image import read_image

PICTURES = (".png", ".jpg", ".jpeg", ".webp")

Clip = tuple[Path, ...]
"""The pictures of one head in order of time."""


def find_clips(folder: Path) -> list[Clip]:
    """Every folder in `folder` that holds pictures. Raises InputError where there is none."""
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    clips = [
        tuple(sorted(path for path in part.iterdir() if path.suffix.lower() in PICTURES)) for part in parts
    ]
    if not any(clips):
        raise InputError(f"{folder} holds no clips; put one folder of square pictures per animal into it.")
    return [clip for clip in clips if clip]


class ClipPairs(Dataset[dict[str, Tensor]]):
    """Micro-batches of "source" and "driving", uint8 (B, n, n, 3): two frames of one clip, mirrored alike."""

    def __init__(self, clips: Sequence[Clip], size_px: int, batch_size: int, seed: int, rank: int = 0):
        self.clips = clips
        self.size_px, self.batch_size = size_px, batch_size
        self.seed, self.rank = seed, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, self.rank, index, 1])
        pairs = [self._pair(rng) for _ in range(self.batch_size)]
        source, driving = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        return {"source": source, "driving": driving}

    def _pair(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        clip = self.clips[int(rng.integers(len(self.clips)))]
        chosen = rng.integers(len(clip), size=2)
        mirrored = bool(rng.random() < 0.5)
        source, driving = (self._picture(clip[number], mirrored) for number in chosen)
        return source, driving

    def _picture(self, path: Path, mirrored: bool) -> np.ndarray:
        image = read_image(path)
        method = cv2.INTER_AREA if min(image.shape[:2]) > self.size_px else cv2.INTER_LINEAR
        image = cv2.resize(image, (self.size_px, self.size_px), interpolation=method)
        return np.ascontiguousarray(image[:, ::-1] if mirrored else image)


class Alternating(Dataset[dict[str, Tensor]]):
    """Whole micro-batches of two datasets, `share` of them of the second, evenly spread."""

    def __init__(self, first: Dataset[dict[str, Tensor]], second: Dataset[dict[str, Tensor]], share: float):
        if not 0 <= share <= 1:
            raise ValueError(f"a share is between 0 and 1, got {share}")
        self.first, self.second, self.share = first, second, share

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        is_second = int((index + 1) * self.share) > int(index * self.share)
        return (self.second if is_second else self.first)[index]

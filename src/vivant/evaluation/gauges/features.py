"""Features of frames and of short clips, kept for the Frechet distances of the whole set.

One row per frame or clip is kept, not pictures; protocols bound their number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.evaluation.judges.given import CLIP_FRAMES, CLIP_PX
from vivant.evaluation.judges.inception import Inception
from vivant.evaluation.judges.scripted import Scripted
from vivant.evaluation.shown import Shown

Rows = dict[str, list[np.ndarray]]


class FrameFeatures:
    """Inception's features of outputs and targets."""

    def __init__(self, network: Inception) -> None:
        self._network = network
        self._rows: Rows = {"inception_output": [], "inception_target": []}

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        pictures = torch.cat([shown.output_tensor, shown.target_tensor])
        for rows, row in zip(self._rows.values(), self._network(pictures).numpy(), strict=True):
            rows.append(row)

    def numbers(self) -> dict[str, float]:
        return {}

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """(N, 2048) each: inception_output, inception_target."""
        return _stacked(self._rows)


class ClipFeatures:
    """The given network's features of every CLIP_FRAMES frames that follow each other, none used twice."""

    def __init__(self, network: Scripted) -> None:
        self._network = network
        self._rows: Rows = {"clips_output": [], "clips_target": []}
        self._window: list[tuple[Tensor, Tensor]] = []
        self._last_index = -1

    @torch.no_grad()
    def update(self, shown: Shown) -> None:
        if shown.index != self._last_index + 1:
            self._window.clear()
        self._last_index = shown.index
        self._window.append((_small(shown.output_tensor), _small(shown.target_tensor)))
        if len(self._window) < CLIP_FRAMES:
            return
        for rows, frames in zip(self._rows.values(), zip(*self._window, strict=True), strict=True):
            clip = torch.cat(frames).movedim(0, 1)[None]
            rows.append(self._network(2 * clip - 1)[0].numpy()[0])
        self._window.clear()

    def numbers(self) -> dict[str, float]:
        return {}

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """(N, D) each: clips_output, clips_target."""
        return _stacked(self._rows)


def _small(picture: Tensor) -> Tensor:
    size = (CLIP_PX, CLIP_PX)
    return F.interpolate(picture, size=size, mode="bilinear", align_corners=False, antialias=True)


def _stacked(rows: Rows) -> dict[str, np.ndarray]:
    return {name: np.stack(found).astype(np.float32) for name, found in rows.items() if found}

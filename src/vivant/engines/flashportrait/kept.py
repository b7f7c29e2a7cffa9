"""Talking clips where the networks learn: read once, kept in the memory of their device, cut there.

Preparing a clip has no randomness, so a dataset says only what to cut, and reading, fitting and drawing masks are not
repeated. Letters: N frames of all clips one after another, B cuts, T frames of a cut, n side of the pictures in pixels,
s side of aligned faces.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.flashportrait.data import EYES, LIPS, MOUTH_CORNERS, NOSE_TIP
from vivant.engines.flashportrait.motion import ALIGNED_POINTS
from vivant.ops.exact import exactly
from vivant.ops.similarity import similarities
from vivant.studio.talking import NUM_BLENDSHAPES, NUM_LANDMARKS, TalkingClip, count_frames, read_clip
from vivant.training.data.fit import fitted
from vivant.training.data.masks import hull
from vivant.training.data.mirror import mirrored_too

FACE, LIP = 1, 2
"""Bits of Kept.parts."""
READ_TOGETHER = 32
WOBBLE = (0.03, 0.03, 0.015, 0.015)
"""Spread of what alignments are changed by: scale, angle, and x, y in sides. The mesh that aligns a driver's face is
not exactly on the studio's points."""


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """How clips are cut."""

    num_frames: int
    batch_size: int
    seed: int


class Cuts(Dataset[dict[str, Tensor]]):
    """What to cut: `clip`, `first` frame, another one of the clip as `reference`, and whether `mirrored`, all (B,);
    `corner` (B, 2), 0 to 1 of what room there is, and `wobble` (B, 4), standard normal.

    Item k is a whole micro-batch and a pure function of (seed, rank, k).
    """

    def __init__(self, paths: Sequence[Path], settings: CutSettings, rank: int = 0):
        self.lengths = np.array([count_frames(path) for path in paths])
        self.settings, self.rank = settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 71])
        clips = rng.integers(len(self.lengths), size=settings.batch_size)
        lengths = self.lengths[clips]
        items = {
            "clip": clips,
            "first": rng.integers(np.maximum(lengths - settings.num_frames, 0) + 1),
            "reference": rng.integers(lengths),
            "mirrored": rng.random(settings.batch_size) < 0.5,
            "corner": rng.random((settings.batch_size, 2), np.float32),
            "wobble": rng.standard_normal((settings.batch_size, 4), np.float32),
        }
        return {name: torch.from_numpy(item) for name, item in items.items()}


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All clips, prepared."""

    frames: Tensor
    """(N, n, n, 3) uint8."""
    parts: Tensor
    """(N, n, n) uint8: FACE inside the face, LIP inside the lips."""
    points: Tensor
    """(2, N, 68, 2) in pixels, 0 at the middle of the first: as they are, and as they are in a mirror."""
    alignments: Tensor
    """(2, N, 2, 3): pixels to sides of the aligned face."""
    expression: Tensor
    """(N, E): weights of blendshapes."""
    starts: Tensor
    """(clips,): each one's first frame."""
    lengths: Tensor
    """(clips,): and how many it has."""

    @property
    def side(self) -> int:
        return self.frames.shape[1]

    def rows(self, clips: Tensor, firsts: Tensor, num_frames: int) -> Tensor:
        """Numbers (B, T) of frames that follow each other; where a clip ends it stands still."""
        places = firsts[:, None] + torch.arange(num_frames, device=firsts.device)
        return self.starts[clips][:, None] + places.minimum(self.lengths[clips][:, None] - 1)

    def cut(self, x: Tensor, rows: Tensor, mirrored: Tensor, corner: Tensor | None, reach: int) -> Tensor:
        """Squares of side `reach` out of x (N, n, n, ...), at rows (B, T): (B, T, reach, reach, ...)."""
        along = torch.arange(reach, device=rows.device)
        left, top = (0, 0) if corner is None else (corner * (self.side + 1 - reach)).long().T[..., None]
        columns, lines = (along + left).expand(len(rows), -1), (along + top).expand(len(rows), -1)
        columns = torch.where(mirrored[:, None], self.side - 1 - columns, columns)
        return x[rows[:, :, None, None], lines[:, None, :, None], columns[:, None, None, :]]


def keep(paths: Sequence[Path], size_px: int, device: torch.device) -> Kept:
    """Read, fit and mask all clips. Threads read and draw; the device fits."""
    lengths = torch.tensor([count_frames(path) for path in paths])
    starts = lengths.cumsum(0) - lengths
    total = int(lengths.sum())
    frames = torch.empty(total, size_px, size_px, 3, dtype=torch.uint8, device=device)
    parts = torch.empty(total, size_px, size_px, dtype=torch.uint8, device=device)
    # Filled in place: small arrays that are kept lie between large ones that then are not freed.
    points, expression = torch.empty(total, NUM_LANDMARKS, 2), torch.empty(total, NUM_BLENDSHAPES)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        first = 0
        # Not all at once: what waits to be fitted lies in main memory.
        for begin in range(0, len(paths), READ_TOGETHER):
            some = paths[begin : begin + READ_TOGETHER]
            for clip, own, masks in pool.map(lambda path: _read(path, size_px), some):
                place = slice(first, first + len(clip.frames))
                frames[place] = fitted(torch.from_numpy(clip.frames).to(device), size_px)
                parts[place] = torch.from_numpy(masks).to(device)
                points[place] = torch.from_numpy(own - 0.5)
                expression[place] = torch.from_numpy(clip.expression)
                first = place.stop
    where = mirrored_too(points, size_px)
    return Kept(
        frames=frames,
        parts=parts,
        points=where.to(device),
        alignments=alignments(where.flatten(0, 1)).unflatten(0, (2, -1)).to(device),
        expression=expression.to(device),
        starts=starts.to(device),
        lengths=lengths.to(device),
    )


def _read(path: Path, size_px: int) -> tuple[TalkingClip, np.ndarray, np.ndarray]:
    """A clip, its points in pixels of training, and its masks."""
    clip = read_clip(path)
    points = np.asarray(clip.landmarks) * (size_px / clip.frames.shape[1])
    masks = [FACE * hull(own, size_px) + LIP * hull(own[list(LIPS)], size_px) for own in points]
    return clip, points, np.stack(masks)


def alignments(points: Tensor) -> Tensor:
    """Points (N, 68, 2) -> (N, 2, 3): the similarity that brings eyes, nose and mouth to their places."""
    eyes = [points[:, list(eye)].mean(1) for eye in EYES]
    five = torch.stack([*eyes, points[:, NOSE_TIP], *(points[:, corner] for corner in MOUTH_CORNERS)], 1)
    return similarities(five, torch.from_numpy(ALIGNED_POINTS).to(five)[None])


@exactly
def wobbled(matrices: Tensor, wobble: Tensor) -> Tensor:
    """Alignments (B, 2, 3) changed by standard normal (B, 4): scaled and turned about the middle, and shifted."""
    scale, angle, *shifts = (own * spread for own, spread in zip(wobble.unbind(1), WOBBLE, strict=True))
    scale = 1 + scale
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([cosine, -sine, sine, cosine], 1).unflatten(1, (2, 2))
    shift = turn @ (matrices[:, :, 2:] - 0.5) + 0.5 + torch.stack(shifts, 1)[..., None]
    return torch.cat([turn @ matrices[:, :, :2], shift], 2)


@exactly
def aligned_faces(pictures: Tensor, matrices: Tensor, size_px: int) -> Tensor:
    """Pictures (M, n, n, 3) uint8 through alignments (M, 2, 3): (M, 3, s, s) in [-1, 1], black outside, cubic."""
    side = pictures.shape[1]
    middles = (torch.arange(size_px, device=pictures.device) / size_px).expand(size_px, -1)
    target = torch.stack([middles, middles.T], -1).flatten(0, 1)
    turned, shift = matrices[:, :, :2], matrices[:, :, 2]
    # The inverse of a rotation and a scale.
    scale = turned[:, 0].square().sum(1)[:, None, None]
    source = ((target - shift[:, None]) @ turned) / scale
    grid = ((2 * source + 1) / side - 1).unflatten(1, (size_px, size_px))
    pixels = pictures.permute(0, 3, 1, 2).float()
    seen = F.grid_sample(pixels, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
    return seen.round().clamp(0, 255) / 127.5 - 1


@exactly
def placed(points: Tensor, matrices: Tensor, size_px: int) -> Tensor:
    """Points (M, 68, 2) in pixels -> in the aligned face, [-1, 1]."""
    where = points @ matrices[:, :, :2].transpose(1, 2) + matrices[:, :, 2][:, None]
    return 2 * where + 1 / size_px - 1

"""Talking clips where the networks learn: read once, kept in the memory of their device, cut there.

Data workers choose numbers only (`data.ClipCuts`), each item a pure function of (seed, rank, k); what they mean is
gathered here. Legend: N frames of all clips one after another, B items, T frames of an item, n picture side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vivant.engines.personalive.heads import heads_of
from vivant.engines.personalive.motion import Pose
from vivant.studio.talking import NUM_BLENDSHAPES, NUM_LANDMARKS, count_frames, read_clip
from vivant.training.data.fit import fitted
from vivant.training.data.grading import graded
from vivant.training.data.mirror import mirrored_too

READ_TOGETHER = 32


@dataclass(frozen=True)
class Truth:
    """What is known of single frames."""

    pictures: Tensor
    """(B, n, n, 3) uint8."""
    points: Tensor
    """(B, 68, 2) crop units."""
    heads: Pose
    expression: Tensor
    """(B, E): weights of blendshapes, as they are without a mirror."""


@dataclass(frozen=True)
class ResidentClips:
    """All talking clips."""

    frames: Tensor
    """(N, n, n, 3) uint8, clip behind clip."""
    points: Tensor
    """(2, N, 68, 2) crop units: as they are, and as they are in a mirror."""
    expression: Tensor
    """(N, E)."""
    firsts: Tensor
    """Where each clip begins."""

    @classmethod
    def of(cls, paths: Sequence[Path], size_px: int, device: torch.device) -> ResidentClips:
        lengths = torch.tensor([count_frames(path) for path in paths])
        firsts, total = lengths.cumsum(0) - lengths, int(lengths.sum())
        # Filled in place: small arrays that are kept lie between large ones that then are not freed, and what is joined
        # afterwards lies in memory twice.
        frames = torch.empty(total, size_px, size_px, 3, dtype=torch.uint8, device=device)
        points, expression = torch.empty(total, NUM_LANDMARKS, 2), torch.empty(total, NUM_BLENDSHAPES)
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            # Not all at once: what waits to be fitted to size lies in main memory.
            for begin in range(0, len(paths), READ_TOGETHER):
                some = slice(begin, begin + READ_TOGETHER)
                for first, clip in zip(firsts[some].tolist(), pool.map(read_clip, paths[some]), strict=True):
                    rows = slice(first, first + len(clip.frames))
                    frames[rows] = fitted(torch.from_numpy(clip.frames).to(device), size_px)
                    points[rows] = torch.from_numpy(clip.landmarks) * (2 / clip.frames.shape[1]) - 1
                    expression[rows] = torch.from_numpy(clip.expression)
        # About the crop's middle a mirror is one of side 1.
        both = mirrored_too(points, 1)
        return cls(frames, both.to(device), expression.to(device), firsts.to(device))

    def batch(self, cuts: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `data.Clips` gives, some of it in a mirror, some of it graded: an item's pictures alike."""
        first, mirrored = self.firsts[cuts["clip"]], cuts["mirrored"]
        rows = first[:, None] + cuts["rows"]
        others = {name: cuts[name] for name in ("draw_reference", "draw_depth", "phase")}
        pictures = self.pictures(torch.cat([(first + cuts["reference"])[:, None], rows], 1), mirrored)
        if "matrix" in cuts:
            # Grain of what is to be drawn cannot be told from anything.
            pictures = graded(pictures, cuts | {"noise": torch.zeros_like(cuts["noise"])})
        return {
            "reference": pictures[:, 0],
            "driving": pictures[:, 1:],
            "points": self.points[mirrored.long()[:, None], rows],
            "reference_points": self.points[mirrored.long(), first + cuts["reference"]],
            **others,
        }

    def truth(self, cuts: dict[str, Tensor]) -> Truth:
        """The first frames, with all that is known of them."""
        mirrored = cuts["mirrored"]
        rows = self.firsts[cuts["clip"]] + cuts["rows"][:, 0]
        pictures = self.pictures(rows[:, None], mirrored)
        if "matrix" in cuts:
            pictures = graded(pictures, cuts)
        points = self.points[mirrored.long(), rows]
        return Truth(pictures[:, 0], points, heads_of(points), self.expression[rows])

    def pictures(self, rows: Tensor, mirrored: Tensor) -> Tensor:
        """(B, T) -> (B, T, n, n, 3)."""
        seen = self.frames[rows]
        return torch.where(mirrored.view(-1, 1, 1, 1, 1), seen.flip(3), seen)

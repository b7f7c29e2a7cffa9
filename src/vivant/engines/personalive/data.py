"""What training sees: pairs of pictures of one person for stages 1 and 2, clips for stage 3; and spoiled face crops.

Item k is a whole micro-batch and a pure function of (seed, rank, k), so a resumed run sees the same data. `draws` are
numbers that all processes share: what they must do alike. Legend: B batch, T frames, S picture side.

Numbers that steer the program, such as `phase`, travel as the length of an empty tensor: a tensor's value would have
to come back from the device, for which the program would wait until all work before it is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vivant.errors import InputError
from vivant.ops.constants import constant
from vivant.studio.talking import count_frames, read_clip
from vivant.training.data.fit import fitted
from vivant.training.data.grading import grades
from vivant.training.data.portraits import Portraits

NUM_LANDMARKS = 68
DRAW_STEPS = 10_000


def told(number: int) -> Tensor:
    """A number that the program needs, not the device; read it with `len`."""
    return torch.empty(number, 0)


def shared_draws(seed: int, index: int) -> dict[str, Tensor]:
    """Two uniform numbers that do not depend on the process; read them with `share`."""
    numbers = np.random.default_rng([seed, index, 41]).integers(DRAW_STEPS, size=2).tolist()
    return {"draw_reference": told(numbers[0]), "draw_depth": told(numbers[1])}


def share(draw: Tensor) -> float:
    """0 to 1."""
    return len(draw) / DRAW_STEPS


class Pairs(Dataset[dict[str, Tensor]]):
    """`reference`, `driving` (B, 1, S, S, 3) uint8 and `points` (B, 1, 68, 2) of the driving picture."""

    def __init__(self, portraits: Portraits):
        self.portraits = portraits

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.portraits[index]
        return {
            "reference": batch["source"],
            "driving": batch["driving"][:, None],
            "points": batch["driving_points"][:, None, :NUM_LANDMARKS],
            **shared_draws(self.portraits.settings.seed, index),
        }


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How clips are cut."""

    size_px: int
    batch_size: int
    seed: int
    num_frames: int
    """Frames of a training clip (40)."""
    stride: int
    """Frames between them (4); less where a clip is shorter."""
    updates_per_clip: int
    """How many items in a row show the same clip."""
    graded: bool = False
    """Whether pictures are graded; of clips that stay on the device."""


class ClipCuts(Dataset[dict[str, Tensor]]):
    """Which frames of which clips: `clip` and `reference` (B,), `rows` (B, T), whether all are `mirrored` (B,), and
    `phase`: which update on them."""

    def __init__(self, paths: Sequence[Path], settings: ClipSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank
        self.lengths = np.array([count_frames(path) for path in paths])
        for path, length in zip(paths, self.lengths, strict=True):
            if length < settings.num_frames:
                raise InputError(
                    f"{path} has {length} frames, {settings.num_frames} are needed; render longer clips."
                )

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        clip, phase = divmod(index, settings.updates_per_clip)
        rng = np.random.default_rng([settings.seed, self.rank, clip, 43])
        count, wanted = settings.batch_size, settings.num_frames
        clips = rng.integers(len(self.lengths), size=count)
        lengths = self.lengths[clips]
        stride = np.minimum(settings.stride, (lengths - 1) // max(1, wanted - 1)).clip(1)
        start = rng.integers(lengths - stride * (wanted - 1))
        cuts = {
            "clip": clips,
            "reference": rng.integers(lengths),
            "rows": start[:, None] + stride[:, None] * np.arange(wanted),
            "mirrored": rng.random(count) < 0.5,
        }
        if settings.graded:
            cuts |= grades(count, rng)
        made = {name: torch.from_numpy(value) for name, value in cuts.items()}
        return self.shown(made) | shared_draws(settings.seed, index) | {"phase": told(phase)}

    def shown(self, cuts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Only the numbers: what is gathered on the device."""
        return cuts


class Clips(ClipCuts):
    """As Pairs, with T driving frames, and `phase`."""

    def shown(self, cuts: dict[str, Tensor]) -> dict[str, Tensor]:
        numbers = zip(*(cuts[name].tolist() for name in ("clip", "reference", "rows")), strict=True)
        items = [self._pictures(*each) for each in numbers]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _pictures(self, number: int, reference: int, rows: list[int]) -> dict[str, Tensor]:
        clip = read_clip(self.paths[number])
        frames = fitted(torch.from_numpy(clip.frames[[reference, *rows]]), self.settings.size_px)
        points = torch.from_numpy(clip.landmarks[[reference, *rows]]) * (2 / clip.frames.shape[1]) - 1
        return {
            "reference": frames[0],
            "driving": frames[1:],
            "points": points[1:],
            "reference_points": points[0],
        }


def spoiled_faces(faces: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Face crops (B, T, 3, S, S) in [0, 1] that tell motion and less of who it is; one treatment per row of B.

    Stretched by up to 1.3 along one axis, graded, bent by 2 to 4 %, grainy (published program).
    """
    count, frames, _, side, _ = faces.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, device=faces.device)

    stretch = torch.ones(count, 2, device=faces.device)
    axis = (uniform(0, 2) >= 1).long()
    stretch[torch.arange(count, device=faces.device), axis] = uniform(1.0, 1.3)
    line = (torch.arange(side, device=faces.device) + 0.5) * (2 / side) - 1
    plain = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    bend = F.interpolate(uniform(-1, 1, 2, 4, 4), size=(side, side), mode="bicubic", align_corners=True)
    strength = uniform(0.02, 0.04, 1, 1, 1)
    grid = plain * stretch[:, None, None] + strength * bend.permute(0, 2, 3, 1)
    flat = faces.flatten(0, 1)
    bent = F.grid_sample(flat, grid.repeat_interleave(frames, 0), padding_mode="border", align_corners=False)
    bent = bent.unflatten(0, (count, frames))
    brightness = uniform(0.3, 1.3, 1, 1, 1, 1)
    contrast, saturation = uniform(0.7, 1.3, 1, 1, 1, 1), uniform(0.7, 1.3, 1, 1, 1, 1)
    graded = torch.einsum("bij,btjhw->btihw", _hue(uniform(-0.3, 0.3) * 2 * math.pi), bent * brightness)
    grey = graded.mean(2, keepdim=True)
    graded = grey + saturation * (graded - grey)
    graded = graded.mean((1, 2, 3, 4), keepdim=True) * (1 - contrast) + contrast * graded
    noise = torch.randn(graded.shape, generator=generator, device=faces.device)
    return (graded + 0.02 * noise).clamp(0, 1)


def _hue(angles: Tensor) -> Tensor:
    """Turns of colour about the grey axis by angles (B,): (B, 3, 3)."""
    axis = constant(((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0)), angles.device)
    third = torch.full((3, 3), 1 / 3, device=angles.device)
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    return cos * torch.eye(3, device=angles.device) + (1 - cos) * third + sin * axis / math.sqrt(3)

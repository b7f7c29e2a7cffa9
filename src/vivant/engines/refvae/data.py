"""What training sees: windows of talking clips, and moments of lips with the sounds around them.

Item k is a whole micro-batch and a pure function of (seed, rank, k), so a resumed run sees the same data.
Legend: B batch, T frames, M references, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.refvae.config import Config
from vivant.engines.refvae.motion import hear, new_hearing, windows
from vivant.engines.refvae.sync_expert import FACE_FRAMES
from vivant.errors import InputError
from vivant.face.crop import upright_crop
from vivant.studio.talking import TalkingClip, read_clip
from vivant.training.data.portraits import PortraitSettings, crop_window

EXPERT_PX = 96
FOREHEAD = 0.35
"""How much higher a face is than its 68 landmarks, which end at the brows; so that the lower half of the square is
where the measure of sync, which has the whole face's mesh, cuts it."""
JITTER = 0.3
"""Of the variation of crops that other families learn from: a portrait's crop is placed, not found by chance."""
MIRRORED = 0.5
"""Share of windows and moments that are seen in a mirror, for there are few people."""
TAIL_SAMPLES = 4 * 640
"""Silence after a clip: its last frames hear a little beyond its end, as at the end of a stream."""


def heard(clip: TalkingClip, lead_frames: int) -> Tensor:
    """Mel windows (T, 1, 80, 16) of all frames of a clip, as a stream hears them."""
    hearing = new_hearing(lead_frames)
    hear(hearing, torch.from_numpy(np.pad(clip.samples, (0, TAIL_SAMPLES))))
    return windows(hearing, range(len(clip.frames)), lead_frames)


def as_video(frames: Tensor) -> Tensor:
    """(B, T, S, S, 3) uint8 -> (B, 3, T, S, S) in [-1, 1], channels last, as the weights of stages are."""
    return (frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last_3d
    )


def as_references(pictures: Tensor) -> Tensor:
    """(B, M, S, S, 3) uint8 -> (B, M, 3, S, S) in [-1, 1]."""
    return pictures.permute(0, 1, 4, 2, 3).float() / 127.5 - 1


@dataclass(frozen=True)
class Cut:
    """The square around a face that pictures are cut to; see `Config`."""

    size_px: int
    scale: float
    vy: float

    @classmethod
    def of(cls, config: Config, size_px: int | None = None) -> Cut:
        """As the config has it, or at another size."""
        return cls(config.image_size if size_px is None else size_px, config.crop_scale, config.crop_vy)


def cropped(
    clip: TalkingClip, row: int, cut: Cut, rng: np.random.Generator, rows: np.ndarray | None = None
) -> tuple[Tensor, np.ndarray]:
    """Frames (N, S, S, 3) uint8 around the face of frame `row`, and their landmarks (N, 68, 2) from -1 to 1.

    cut: varied a little. rows: which frames; None: all.
    """
    rows = np.arange(len(clip.frames)) if rows is None else rows
    settings = PortraitSettings(
        size_px=cut.size_px, batch_size=1, seed=0, crop_scale=cut.scale, crop_vy=cut.vy, jitter=JITTER
    )
    box = crop_window(clip.landmarks[row], settings, clip.frames.shape[1], rng)
    # Rounding may reach a pixel beyond the edge, where a slice would begin at the other end.
    left, top = max(round(box.x - box.side / 2), 0), max(round(box.y - box.side / 2), 0)
    reach = round(box.side)
    pixels = torch.from_numpy(clip.frames[rows, top : top + reach, left : left + reach])
    size = (cut.size_px, cut.size_px)
    fitted = F.interpolate(
        pixels.permute(0, 3, 1, 2).float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    points = (clip.landmarks[rows] - (left, top)) * (2 / reach) - 1
    return fitted.permute(0, 2, 3, 1).round().clamp(0, 255).byte().contiguous(), points.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How windows are cut."""

    cut: Cut
    batch_size: int
    seed: int
    num_frames: int
    """1 + 4n. The encoder knows nothing of what came before."""
    max_references: int
    """Each micro-batch has 1 to this many reference pictures, anywhere in the same clip; 0: none."""
    without_references: float = 0.0
    """Share of the micro-batches that have none, where latents must say everything."""


class Windows(Dataset[dict[str, Tensor]]):
    """`frames` (B, T, S, S, 3) and `references` (B, M, S, S, 3) uint8, and `points` (B, T, 68, 2), -1 to 1."""

    def __init__(self, paths: Sequence[Path], settings: WindowSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 53])
        most = settings.max_references
        num_references = int(rng.integers(min(1, most), most + 1))
        if settings.without_references and rng.random() < settings.without_references:
            num_references = 0
        items = [self._window(num_references, rng) for _ in range(settings.batch_size)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _window(self, num_references: int, rng: np.random.Generator) -> dict[str, Tensor]:
        path, count = self.paths[int(rng.integers(len(self.paths)))], self.settings.num_frames
        clip = read_clip(path)
        length = len(clip.frames)
        if length < count:
            raise InputError(f"{path} has {length} frames, {count} are needed; render longer clips.")
        first = int(rng.integers(length - count + 1))
        rows = np.concatenate([np.arange(first, first + count), rng.integers(length, size=num_references)])
        pictures, points = cropped(clip, first + count // 2, self.settings.cut, rng, rows)
        if rng.random() < MIRRORED:
            pictures, points = pictures.flip(2), points * np.array([-1, 1], np.float32)
        return {
            "frames": pictures[:count],
            "references": pictures[count:],
            "points": torch.from_numpy(points[:count]),
        }


@dataclass(frozen=True, kw_only=True)
class MomentSettings:
    """How moments are cut."""

    batch_size: int
    """A multiple of moments_per_clip."""
    seed: int
    lead_frames: int
    moments_per_clip: int
    """Moments of one clip in a batch: same voice, same face, so that only their timing tells them apart."""
    min_shift_frames: int
    """How far apart they are at least."""


class Moments(Dataset[dict[str, Tensor]]):
    """`faces` (B, 15, 48, 96) uint8, five lower half faces each, and `sounds` (B, 1, 80, 16), row by row theirs."""

    def __init__(self, paths: Sequence[Path], settings: MomentSettings, rank: int = 0):
        if settings.batch_size % settings.moments_per_clip:
            raise ValueError(
                f"batch_size is a multiple of {settings.moments_per_clip} moments per clip, got {settings.batch_size}"
            )
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 59])
        num_clips = settings.batch_size // settings.moments_per_clip
        items = [self._moments(rng) for _ in range(num_clips)]
        return {name: torch.cat([item[name] for item in items]) for name in items[0]}

    def _moments(self, rng: np.random.Generator) -> dict[str, Tensor]:
        settings = self.settings
        path = self.paths[int(rng.integers(len(self.paths)))]
        clip = read_clip(path)
        count, apart = settings.moments_per_clip, settings.min_shift_frames
        # The sound of frame f is that of the five faces that begin `lead_frames` before it.
        reach = max(FACE_FRAMES, settings.lead_frames + 1)
        length, needed = len(clip.frames), reach + (count - 1) * apart
        if length < needed:
            raise InputError(f"{path} has {length} frames, {needed} are needed; render longer clips.")
        # Drawn without the room between them, which is then put back.
        places = np.sort(rng.choice(length - needed + count, count, replace=False))
        firsts = places + np.arange(count) * (apart - 1)
        faces = [self._faces(clip, int(first), rng) for first in firsts]
        sounds = heard(clip, settings.lead_frames)[firsts + settings.lead_frames]
        return {"faces": torch.stack(faces), "sounds": sounds}

    def _faces(self, clip: TalkingClip, first: int, rng: np.random.Generator) -> Tensor:
        rows = range(first, first + FACE_FRAMES)
        halves = torch.cat([lower_half(clip.frames[row], clip.landmarks[row]) for row in rows])
        return halves.flip(-1) if rng.random() < MIRRORED else halves


def lower_half(picture: np.ndarray, landmarks: np.ndarray) -> Tensor:
    """(3, 48, 96) BGR uint8 of a frame (H, W, 3) RGB and its 68 landmarks in pixels."""
    low, high = landmarks.min(0), landmarks.max(0)
    low = low - np.array([0.0, FOREHEAD * (high[1] - low[1])])
    level = np.array([[0.0, 0.0], [1.0, 0.0]])
    crop = upright_crop((low + high) / 2, float((high - low).max()), level, EXPERT_PX)
    half = crop.apply(picture)[EXPERT_PX // 2 :, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(half)).permute(2, 0, 1)

"""What training sees: windows of talking clips, and moments of lips with the sounds around them.

Item k is a whole micro-batch and a pure function of (seed, rank, k), so a resumed run sees the same data.
Legend: B batch, T frames, M references, S picture side, N other sounds.
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

from vivant.engines.refvae.config_vae import TIME_FACTOR
from vivant.engines.refvae.motion import hear, new_hearing, windows
from vivant.engines.refvae.sync_expert import FACE_FRAMES
from vivant.errors import InputError
from vivant.face.crop import upright_crop
from vivant.studio.talking import TalkingClip, list_clips, read_clip
from vivant.training.data.portraits import PortraitSettings, crop_window
from vivant.training.data.sessions import NUM_HELD_OUT

EXPERT_PX = 96
FOREHEAD = 0.35
"""How much higher a face is than its 68 landmarks, which end at the brows; so that the lower half of the square is
where the measure of sync, which has the whole face's mesh, cuts it."""
TAIL_SAMPLES = 4 * 640
"""Silence after a clip: its last frames hear a little beyond its end, as at the end of a stream."""


def find_clips(folder: Path) -> list[Path]:
    """Talking clips of people that evaluation never uses. Raises InputError where there are none."""
    paths = [path for path in list_clips(folder) if int(path.name.split(".")[0]) >= NUM_HELD_OUT]
    if not paths:
        raise InputError(f"{folder} holds no training clips. Render some with `vivant studio talk`.")
    return paths


def heard(clip: TalkingClip, lead_frames: int) -> Tensor:
    """Mel windows (T, 1, 80, 16) of all frames of a clip, as a stream hears them."""
    hearing = new_hearing(lead_frames)
    hear(hearing, torch.from_numpy(np.pad(clip.samples, (0, TAIL_SAMPLES))))
    return windows(hearing, range(len(clip.frames)), lead_frames)


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """How windows are cut."""

    size_px: int
    batch_size: int
    seed: int
    num_latents: int
    """Of the longest window, L; shorter clips give shorter windows."""
    block_latents: int
    """Windows are whole blocks."""
    max_references: int
    """Each micro-batch has 1 to this many reference pictures, anywhere in the same clip."""
    from_start: float
    """Share of the micro-batches that begin with the clip, whose first frame's latent then counts."""
    lead_frames: int | None
    """None: sound is not needed."""


class Windows(Dataset[dict[str, Tensor]]):
    """`frames` (B, T, S, S, 3) and `references` (B, M, S, S, 3) uint8, `starts`, and `sound` (B, T, 1, 80, 16).

    Where a window starts the clip, T = 1 + 4 (L - 1) for L latents. Elsewhere T = 1 + 4 L: the first frame only gives
    the encoder something to begin with.
    """

    def __init__(self, paths: Sequence[Path], settings: WindowSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 53])
        paths = [self.paths[int(rng.integers(len(self.paths)))] for _ in range(settings.batch_size)]
        clips = [read_clip(path) for path in paths]
        starts = bool(rng.random() < settings.from_start)
        shortest = min(range(len(clips)), key=lambda i: len(clips[i].frames))
        latents = self._latents(len(clips[shortest].frames), starts, paths[shortest])
        count = 1 + TIME_FACTOR * (latents - starts)
        num_references = int(rng.integers(1, settings.max_references + 1))
        items = [self._window(clip, (starts, count, num_references), rng) for clip in clips]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        return batch | {"starts": torch.tensor(starts)}

    def _latents(self, num_frames: int, starts: bool, path: Path) -> int:
        """Latents of the longest window of whole blocks in a clip."""
        block = self.settings.block_latents
        latents = min(self.settings.num_latents, (num_frames - 1) // TIME_FACTOR + starts) // block * block
        if latents < 1:
            raise InputError(
                f"{path} has {num_frames} frames, {1 + TIME_FACTOR * block} are needed; render longer clips."
            )
        return latents

    def _window(
        self, clip: TalkingClip, cut: tuple[bool, int, int], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        starts, count, num_references = cut
        length, side = clip.frames.shape[:2]
        first = 0 if starts else int(rng.integers(length - count + 1))
        rows = np.concatenate([np.arange(first, first + count), rng.integers(length, size=num_references)])
        settings = PortraitSettings(size_px=self.settings.size_px, batch_size=1, seed=self.settings.seed)
        box = crop_window(clip.landmarks[first + count // 2], settings, side, rng)
        left, top = round(box.x - box.side / 2), round(box.y - box.side / 2)
        # Rounding may reach a pixel beyond the edge, where a slice would begin at the other end.
        left, top, reach = max(left, 0), max(top, 0), round(box.side)
        pictures = self._fitted(clip.frames[rows, top : top + reach, left : left + reach])
        item = {"frames": pictures[:count], "references": pictures[count:]}
        if self.settings.lead_frames is not None:
            item["sound"] = heard(clip, self.settings.lead_frames)[first : first + count]
        return item

    def _fitted(self, pictures: np.ndarray) -> Tensor:
        """(N, H, W, 3) uint8 at the size of training, smoothed where they get smaller."""
        size = (self.settings.size_px, self.settings.size_px)
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        fitted = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
        return fitted.permute(0, 2, 3, 1).round().clamp(0, 255).byte().contiguous()


@dataclass(frozen=True, kw_only=True)
class MomentSettings:
    """How moments are cut."""

    batch_size: int
    seed: int
    lead_frames: int
    num_others: int
    """Sounds of the same clip that do not belong to the lips."""
    min_shift_frames: int
    """How far away they are at least."""


class Moments(Dataset[dict[str, Tensor]]):
    """`faces` (B, 15, 48, 96) uint8, five lower half faces, and `sounds` (B, 1 + N, 1, 80, 16), the first theirs."""

    def __init__(self, paths: Sequence[Path], settings: MomentSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 59])
        items = [self._moment(rng) for _ in range(settings.batch_size)]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def _moment(self, rng: np.random.Generator) -> dict[str, Tensor]:
        settings = self.settings
        path = self.paths[int(rng.integers(len(self.paths)))]
        clip = read_clip(path)
        length, needed = len(clip.frames), FACE_FRAMES + 2 * settings.min_shift_frames
        if length < needed:
            raise InputError(f"{path} has {length} frames, {needed} are needed; render longer clips.")
        # The sound of frame f is that of the five faces that begin `lead_frames` before it.
        first = int(rng.integers(length - max(FACE_FRAMES, settings.lead_frames + 1) + 1))
        own = first + settings.lead_frames
        frames = np.arange(length)
        far = frames[np.abs(frames - own) >= settings.min_shift_frames]
        others = rng.choice(far, settings.num_others, replace=len(far) < settings.num_others)
        rows = range(first, first + FACE_FRAMES)
        halves = [lower_half(clip.frames[row], clip.landmarks[row]) for row in rows]
        sounds = heard(clip, settings.lead_frames)
        return {"faces": torch.cat(halves), "sounds": sounds[[own, *others.tolist()]]}


def lower_half(picture: np.ndarray, landmarks: np.ndarray) -> Tensor:
    """(3, 48, 96) BGR uint8 of a frame (H, W, 3) RGB and its 68 landmarks in pixels."""
    low, high = landmarks.min(0), landmarks.max(0)
    low = low - np.array([0.0, FOREHEAD * (high[1] - low[1])])
    level = np.array([[0.0, 0.0], [1.0, 0.0]])
    crop = upright_crop((low + high) / 2, float((high - low).max()), level, EXPERT_PX)
    half = crop.apply(picture)[EXPERT_PX // 2 :, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(half)).permute(2, 0, 1)

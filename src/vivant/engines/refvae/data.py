"""What training sees: windows of talking clips, and moments of lips with the sounds around them.

Item k is a whole micro-batch and a pure function of (seed, rank, k), so a resumed run sees the same data.
Of windows it says only where they are; `Footage` has their pictures, on the device that trains.
Legend: B batch, T frames, M references, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.refvae.config import Config
from vivant.engines.refvae.losses import MOUTH
from vivant.engines.refvae.motion import hear, new_hearing, windows
from vivant.engines.refvae.sync_expert import FACE_FRAMES
from vivant.errors import InputError
from vivant.face.crop import upright_crop
from vivant.studio.talking import TalkingClip, read_clip, read_frames, read_landmarks
from vivant.training.data.fit import fitted
from vivant.training.data.portraits import PortraitSettings, crop_window

EXPERT_PX = 96
FOREHEAD = 0.35
"""How much higher a face is than its 68 landmarks, which end at the brows; so that the lower half of the square is
where the measure of sync, which has the whole face's mesh, cuts it."""
JITTER = 0.3
"""Of the variation of crops that other families learn from: a portrait's crop is placed, not found by chance."""
NEAR, NEAR_JITTER = 0.5, 0.2
"""Side of what is seen near, over the whole; how far from its middle, over its own side, the mouth may be."""
MIRRORED = 0.5
"""Share of windows and moments that are seen in a mirror, for there are few people."""
KEPT_BYTES = 16 * 2**30
"""Of a GPU's memory, for clips."""
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


@dataclass(frozen=True)
class Box:
    """A square of a clip's pictures, in whole pixels."""

    left: int
    top: int
    reach: int

    @classmethod
    def around(cls, landmarks: np.ndarray, cut: Cut, side: int, rng: np.random.Generator) -> Box:
        """Around a face (68, 2) in a picture of that side, varied a little."""
        settings = PortraitSettings(
            size_px=cut.size_px, batch_size=1, seed=0, crop_scale=cut.scale, crop_vy=cut.vy, jitter=JITTER
        )
        window = crop_window(landmarks, settings, side, rng)
        # Rounding may reach a pixel beyond the edge, where a slice would begin at the other end.
        left, top = max(round(window.x - window.side / 2), 0), max(round(window.y - window.side / 2), 0)
        return cls(left, top, round(window.side))

    def near(self, points: np.ndarray, rng: np.random.Generator) -> Box:
        """The part of it, `NEAR` of its side, that has the middle of points (N, 2) somewhere in its own middle."""
        reach = round(NEAR * self.reach)
        start = points.mean(0) - reach / 2 + rng.uniform(-NEAR_JITTER, NEAR_JITTER, 2) * reach
        first = np.array([self.left, self.top])
        left, top = np.clip(start.round().astype(int), first, first + self.reach - reach).tolist()
        return Box(left, top, reach)

    def cut(self, pixels: Tensor, size_px: int) -> Tensor:
        """Pictures (N, H, W, 3) uint8 -> (N, S, S, 3) uint8."""
        pixels = pixels[:, self.top : self.top + self.reach, self.left : self.left + self.reach]
        return fitted(pixels, size_px)

    def placed(self, landmarks: np.ndarray) -> np.ndarray:
        """Landmarks (..., 2) in pixels -> float32 in the box, from -1 to 1."""
        return ((landmarks - (self.left, self.top)) * (2 / self.reach) - 1).astype(np.float32)


def cropped(
    clip: TalkingClip, row: int, cut: Cut, rng: np.random.Generator, device: torch.device | str = "cpu"
) -> tuple[Tensor, np.ndarray]:
    """All frames (N, S, S, 3) uint8 around the face of frame `row`, and their landmarks (N, 68, 2) from -1 to 1."""
    box = Box.around(clip.landmarks[row], cut, clip.frames.shape[1], rng)
    return box.cut(torch.from_numpy(clip.frames).to(device), cut.size_px), box.placed(clip.landmarks)


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
    near_mouths: float = 0.0
    """Share of the micro-batches that show the half of the square that is around the mouth, at the same scale."""


class Windows(Dataset[dict[str, Tensor]]):
    """Which parts of which clips: `clip` (B,), `rows` (B, T + M) with references last, `box` (B, 3), `mirrored` (B,),
    `size_px`, and `points` (B, T, 68, 2), -1 to 1."""

    def __init__(self, paths: Sequence[Path], settings: WindowSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 53])
        most = settings.max_references
        num_references = int(rng.integers(min(1, most), most + 1))
        if settings.without_references and rng.random() < settings.without_references:
            num_references = 0
        # Alike on all ranks, which wait for each other.
        is_near = np.random.default_rng([settings.seed, index, 54]).random() < settings.near_mouths
        items = [self._window(num_references, bool(is_near), rng) for _ in range(settings.batch_size)]
        stacked = {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}
        return stacked | {"size_px": torch.tensor(round(settings.cut.size_px * (NEAR if is_near else 1)))}

    def _window(self, num_references: int, is_near: bool, rng: np.random.Generator) -> dict[str, np.ndarray]:
        chosen, count = int(rng.integers(len(self.paths))), self.settings.num_frames
        landmarks, side = _landmarks(self.paths[chosen])
        length = len(landmarks)
        if length < count:
            raise InputError(
                f"{self.paths[chosen]} has {length} frames, {count} are needed; render longer clips."
            )
        first = int(rng.integers(length - count + 1))
        rows = np.arange(first, first + count)
        references = rng.integers(length, size=num_references)
        shape = landmarks[first + count // 2]
        box = Box.around(shape, self.settings.cut, side, rng)
        box = box.near(shape[MOUTH], rng) if is_near else box
        mirrored, points = rng.random() < MIRRORED, box.placed(landmarks[rows])
        return {
            "clip": np.array(chosen),
            "rows": np.concatenate([rows, references]),
            "box": np.array([box.left, box.top, box.reach]),
            "mirrored": np.array(mirrored),
            "points": points * np.array([-1, 1], np.float32) if mirrored else points,
        }


@lru_cache(16_384)
def _landmarks(path: Path) -> tuple[np.ndarray, int]:
    return read_landmarks(path)


class Footage:
    """The pictures of windows. A GPU keeps clips that it has seen (7 MB for 5 s at 144 px) as far as `KEPT_BYTES` go.

    Of others, and for a CPU, only what is needed is read, for the system keeps what was read.
    """

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths
        self._kept: dict[int, Tensor] = {}
        self._room = KEPT_BYTES

    def pictures(self, windows: dict[str, Tensor], num_frames: int) -> tuple[Tensor, Tensor]:
        """Frames (B, T, S, S, 3) and references (B, M, S, S, 3), uint8, where the windows are."""
        device, size_px = windows["clip"].device, int(windows["size_px"])
        chosen, boxes, mirrored = (windows[name].tolist() for name in ("clip", "box", "mirrored"))
        shown = []
        for clip, rows, box, turned in zip(chosen, windows["rows"], boxes, mirrored, strict=True):
            cut = Box(*box).cut(self._taken(clip, rows, device), size_px)
            shown.append(cut.flip(2) if turned else cut)
        stacked = torch.stack(shown)
        return stacked[:, :num_frames], stacked[:, num_frames:]

    def _taken(self, clip: int, rows: Tensor, device: torch.device) -> Tensor:
        """(N, H, W, 3) uint8."""
        if clip in self._kept:
            return self._kept[clip][rows]
        if device.type == "cpu" or self._room <= 0:
            return torch.from_numpy(read_frames(self.paths[clip], rows.tolist())).to(device)
        frames = torch.from_numpy(read_clip(self.paths[clip]).frames).to(device)
        self._kept[clip] = frames
        self._room -= frames.nbytes
        return frames[rows]


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

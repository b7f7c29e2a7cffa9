"""Sessions of studio people for training: frames, aligned faces, and where face and lips are.

Item k is a whole micro-batch and a pure function of (seed, rank, k): a resumed run sees the same data. Sessions that a
filter refuses are left out. Letters: B clips, T frames, n side of the pictures, s side of the aligned faces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.flashportrait.motion import ALIGNED_POINTS
from vivant.errors import InputError
from vivant.face.align import similarity, warped
from vivant.studio.dataset import Session
from vivant.training.data.compose import NEUTRAL, Window, compose, random_grade
from vivant.training.data.masks import hull, sharpness
from vivant.training.data.portraits import NUM_LANDMARKS, PortraitSettings, crop_window

Filter = Callable[[Session], bool]

# Of the 68 points: eyes, nose tip, mouth corners, outer lips.
EYES = (range(36, 42), range(42, 48))
NOSE_TIP, MOUTH_CORNERS, LIPS = 30, (48, 54), range(48, 60)


@dataclass(frozen=True)
class LargeFaces:
    """A filter: the face is at least this many pixels wide or high in the middle frame."""

    smallest_px: float

    def __call__(self, session: Session) -> bool:
        points = session.keypoint_xy[len(session.keypoint_xy) // 2, :NUM_LANDMARKS]
        return float((points.max(0) - points.min(0)).max()) >= self.smallest_px


@dataclass(frozen=True)
class SharpPictures:
    """A filter: the sharpness of the middle frame, see vivant.training.data.masks."""

    least: float

    def __call__(self, session: Session) -> bool:
        return sharpness(session.rgba[len(session.rgba) // 2, ..., :3]) >= self.least


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How clips are cut."""

    size_px: int
    face_px: int
    num_frames: int
    batch_size: int
    seed: int
    filters: tuple[Filter, ...] = ()


class Clips(Dataset[dict[str, Tensor]]):
    """Map-style dataset of whole micro-batches."""

    def __init__(
        self,
        data: Sequence[Session],
        backgrounds: np.ndarray,
        settings: ClipSettings,
        rank: int = 0,
    ):
        self.data = [item for item in data if all(f(item) for f in settings.filters)]
        if not self.data:
            raise InputError(f"none of the {len(data)} sessions passes the filters of this recipe")
        self.backgrounds, self.settings, self.rank = backgrounds, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """frames (B, T, n, n, 3), faces (B, T, s, s, 3), face and lips (B, T, n, n), all uint8; points (B, T, 68, 2) in
        the aligned face, [-1, 1]."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index])
        items = [self._clip(rng) for _ in range(settings.batch_size)]
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def _clip(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        settings = self.settings
        item = self.data[int(rng.integers(len(self.data)))]
        length = len(item.rgba)
        first = int(rng.integers(max(length - settings.num_frames, 0) + 1))
        # Where there is less than a clip it stands still at its end.
        frames = np.minimum(np.arange(first, first + settings.num_frames), length - 1)
        cut = PortraitSettings(size_px=settings.size_px, batch_size=1, seed=settings.seed)
        window = crop_window(item.keypoint_xy[first, :NUM_LANDMARKS], cut, item.info.size, rng)
        grade = random_grade(rng) if rng.random() < 0.5 else NEUTRAL
        background = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        rows = [self._frame(item, int(frame), window, (background, grade), rng) for frame in frames]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def _frame(
        self, session: Session, frame: int, window: Window, look: tuple, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        background, grade = look
        picture, _ = compose(session.rgba[frame], background, window, grade, rng)
        points = (window.to_crop(session.keypoint_xy[frame, :NUM_LANDMARKS]) + 1) / 2 * self.settings.size_px
        return self._labelled(picture, points)

    def _labelled(self, picture: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
        """A picture, and what its points (68, 2), in pixels, say."""
        settings = self.settings
        five = [points[list(eye)].mean(0) for eye in EYES]
        five += [points[NOSE_TIP], *points[list(MOUTH_CORNERS)]]
        matrix = similarity(np.stack(five) - 0.5, ALIGNED_POINTS * settings.face_px)
        placed = (points - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        return {
            "frames": picture,
            "faces": warped(picture, matrix, settings.face_px),
            "face": hull(points, settings.size_px),
            "lips": hull(points[list(LIPS)], settings.size_px),
            "points": ((placed + 0.5) * (2 / settings.face_px) - 1).astype(np.float32),
        }

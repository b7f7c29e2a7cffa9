"""Pairs of pictures of one synthetic person, with everything the renderer knows about them.

Item k is a whole micro-batch and a pure function of (seed, rank, k): a resumed run sees the same data.
Labels are in the family's convention: row-vector rotations, x right, y down, z inward, crop units
(whole crop = 2), lengths of 10 cm. Legend: B batch, n picture side, K keypoints, E blendshape weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.studio.background import sample_background
from vivant.studio.dataset import Session
from vivant.studio.flow import flow as true_flow
from vivant.training.data.compose import NEUTRAL, Window, compose, random_grade

FLIP_YZ = np.array([1.0, -1.0, -1.0], np.float32)
"""Studio camera axes (y up, z to the camera) to ours (y down, z inward)."""
NUM_LANDMARKS = 68
NEAR_DEGREES = 6.0


@dataclass(frozen=True, kw_only=True)
class PortraitSettings:
    """How pictures are cut and what comes with them."""

    size_px: int
    """Side of the pictures."""
    batch_size: int
    seed: int
    pairs: bool = True
    """True: source and driving share crop, background and colour, and flow comes along. False: single pictures."""
    augment: bool = True
    crop_scale: float = 2.3
    """Crop side over the landmarks' extent; varied by about a quarter when augmenting."""
    crop_vy: float = -0.125
    jitter: float = 1.0
    """Of the usual variation of size (a quarter) and place, where augmenting."""
    contrast: float = 0.0
    """Share of the pairs whose driving face is, of three, the one whose expression differs most from the source's."""
    near: float = 0.0
    """Share of the pairs whose two heads are turned almost alike, where the session has such frames."""
    turn: float = 0.0
    """Standard deviation of in-plane rotation, radians (single pictures)."""
    camera_distance: float = 10.0
    """Distance at which labels are expressed; the family's Config.camera_distance."""


def crop_window(
    landmarks: np.ndarray, settings: PortraitSettings, size: int, rng: np.random.Generator
) -> Window:
    """The square that face cropping would choose around (68, 2) landmarks, jittered, inside the render."""
    low, high = landmarks.min(0), landmarks.max(0)
    extent = float((high - low).max())
    side = extent * settings.crop_scale
    x, y = (low + high) / 2 + np.array([0.0, settings.crop_vy * side])
    angle = 0.0
    if settings.augment:
        side *= float(np.exp(rng.normal() * 0.12 * settings.jitter))
        x += rng.normal() * 0.05 * settings.jitter * side
        y += rng.normal() * 0.05 * settings.jitter * side
        angle = float(rng.normal() * settings.turn)
    side = min(max(side, 32.0), float(size))
    half = side / 2
    return Window(float(np.clip(x, half, size - half)), float(np.clip(y, half, size - half)), side, angle)


def motion_labels(
    session: Session, frame: int, window: Window, camera_distance: float
) -> dict[str, np.ndarray]:
    """Rotation, scale, translation, canonical, expression, weights, gaze and exact points of one frame.

    Scale and translation are those that reproduce the rendered points best under the family's projection
    (least squares), because a crop does not know where its optical centre was.
    """
    canonical = session.canonical * FLIP_YZ
    expression = session.delta[frame] * FLIP_YZ
    rotation = (session.rotation[frame] * FLIP_YZ[:, None] * FLIP_YZ).T @ window.rotation()
    exact = window.to_crop(session.keypoint_xy[frame])
    posed = (canonical + expression) @ rotation
    flat = posed[:, :2] / (1 + posed[:, 2:] / camera_distance)
    centred = flat - flat.mean(0)
    scale = float((centred * (exact - exact.mean(0))).sum() / (centred**2).sum())
    translation = exact.mean(0) - scale * flat.mean(0)
    return {
        "rotation": rotation.astype(np.float32),
        "scale": np.array([scale], np.float32),
        "translation": np.array([*translation, 0.0], np.float32),
        "canonical": canonical.astype(np.float32),
        "expression": expression.astype(np.float32),
        "weights": session.expression[frame].astype(np.float32),
        "gaze": session.gaze[frame].astype(np.float32),
        "points": exact,
    }


class Portraits(Dataset[dict[str, Tensor]]):
    """Map-style dataset of whole micro-batches."""

    def __init__(
        self,
        sessions: Sequence[Session],
        settings: PortraitSettings,
        backgrounds: np.ndarray,
        rank: int = 0,
    ):
        self.sessions, self.settings, self.backgrounds = sessions, settings, backgrounds
        self.rank = rank
        if backgrounds.shape[1:3] != (settings.size_px, settings.size_px):
            raise ValueError(f"backgrounds of {settings.size_px} px are needed, got {backgrounds.shape[1:3]}")

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index])
        make = self._pair if settings.pairs else self._single
        items = [make(rng) for _ in range(settings.batch_size)]
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def pair(
        self, session: Session, source: int, driving: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Source and driving picture (n, n, 3) uint8, background, alpha, flow, visible, labels of both."""
        settings = self.settings
        landmarks = session.keypoint_xy[source, :NUM_LANDMARKS]
        window = crop_window(landmarks, settings, session.info.size, rng)
        grade = random_grade(rng) if settings.augment else NEUTRAL
        background = self._background(rng)
        out: dict[str, np.ndarray] = {}
        for name, frame in (("source", source), ("driving", driving)):
            out[name], alpha = compose(session.rgba[frame], background, window, grade, rng)
            out[f"{name}_alpha"] = alpha
            for key, value in motion_labels(session, frame, window, settings.camera_distance).items():
                out[f"{name}_{key}"] = value
        empty = np.zeros((2, 2, 4), np.uint8)
        out["background"], _ = compose(empty, background, Window(1, 1, 1), grade, rng)
        x0, y0 = window.x - window.side / 2, window.y - window.side / 2
        flow, visible = true_flow(session, driving, source, x0, y0, window.side, settings.size_px // 4)
        out["flow"], out["visible"] = flow.astype(np.float32), visible.astype(np.float32)
        return out

    def _pair(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        session = self.sessions[int(rng.integers(len(self.sessions)))]
        source = int(rng.integers(len(session.rotation)))
        candidates = np.arange(len(session.rotation))
        near = bool(self.settings.near) and rng.random() < self.settings.near
        if near:
            away = np.abs(session.angles - session.angles[source]).max(1)
            candidates = np.flatnonzero(away < NEAR_DEGREES)
        driving = int(rng.choice(candidates))
        if near or (self.settings.contrast and rng.random() < self.settings.contrast):
            # Closed mouths that open and open eyes that close are rare among random pairs and must be painted.
            choice = [driving, *rng.choice(candidates, size=2).tolist()]
            change = np.abs(session.expression[choice] - session.expression[source]).sum(1)
            driving = choice[int(change.argmax())]
        return self.pair(session, source, driving, rng)

    def _single(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        session = self.sessions[int(rng.integers(len(self.sessions)))]
        frame = int(rng.integers(len(session.rotation)))
        return self.single(session, frame, rng)

    def single(self, session: Session, frame: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """One picture with its labels."""
        settings = self.settings
        landmarks = session.keypoint_xy[frame, :NUM_LANDMARKS]
        window = crop_window(landmarks, settings, session.info.size, rng)
        grade = random_grade(rng) if settings.augment else NEUTRAL
        image, _ = compose(session.rgba[frame], self._background(rng), window, grade, rng)
        return {"image": image, **motion_labels(session, frame, window, settings.camera_distance)}

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        picture = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        if self.settings.augment and rng.random() < 0.5:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(picture)


def random_backgrounds(count: int, size_px: int, seed: int) -> np.ndarray:
    """Pictures (count, size, size, 3) uint8 to put behind people: rooms, paper rolls, and loud patterns.

    The patterns look like nothing real; they teach the networks not to lean on calm backgrounds.
    """
    rng = np.random.default_rng([seed, 11])
    pictures = [sample_background(size_px, rng) if i % 3 else _pattern(size_px, rng) for i in range(count)]
    return np.stack([(np.clip(p, 0, 1) * 255 + 0.5).astype(np.uint8) for p in pictures])


def _pattern(size: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of several scales with boxes and lines, sharp or blurred, float in [0, 1]."""
    low, high = rng.uniform(0, 1, (2, 3))
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:size, :size] / size - 0.5
    share = (np.cos(angle) * x + np.sin(angle) * y + 0.5)[..., None]
    image = (low * (1 - share) + high * share).astype(np.float32)
    for octave in range(int(rng.integers(0, 6))):
        cells = 3 * 2**octave
        noise = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        grown = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        image += np.float32(0.62**octave * rng.uniform(0.02, 0.15)) * grown
    for _ in range(int(rng.integers(0, 20))):
        colour = tuple(float(c) for c in rng.uniform(0, 1, 3))
        x0, y0, x1, y1 = (int(v) for v in rng.integers(-20, size + 20, 4))
        if rng.random() < 0.6:
            cv2.rectangle(image, (x0, y0), (x1, y1), colour, -1)
        else:
            cv2.line(image, (x0, y0), (x1, y1), colour, int(rng.integers(1, 14)))
    blur = float(rng.choice([0, 0.6, 2, 5]))
    return cv2.GaussianBlur(image, (0, 0), blur) if blur else image


def statistics(sessions: Sequence[Session]) -> dict[str, np.ndarray]:
    """Mean and spread of canonical shapes, spread of expression offsets, each (K, 3), left and right alike."""
    shapes = np.stack([session.canonical for session in sessions]) * FLIP_YZ
    offsets = np.concatenate([session.delta for session in sessions]) * FLIP_YZ
    return {
        "mean_shape": shapes.mean(0),
        "std_shape": shapes.std(0).clip(0.01),
        "std_expression": offsets.std(0).clip(0.006),
    }

"""All pictures on the training device, cut and graded there: a GPU sees more a second than processor cores can compose.

Data workers choose numbers only (`Shots`, `data.ClipCuts`), each item a pure function of (seed, rank, k); the stage
gathers what they mean. As `training.data.portraits`, but for JPEG, which no picture passes, and grain, which comes from
the device's generator. Legend: N frames in all, P pictures of one person in an item, B items, S render side, n picture
side, K keypoints, E blendshape weights.
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

from vivant.engines.personalive.data import NUM_LANDMARKS, shared_draws
from vivant.errors import InputError
from vivant.ops.constants import constant
from vivant.studio.dataset import Session
from vivant.studio.talking import read_clip
from vivant.training.data.compose import Window
from vivant.training.data.fit import fitted
from vivant.training.data.portraits import PortraitSettings, motion_labels

LUMA = (0.299, 0.587, 0.114)
COARSE = 1.4
"""Renders that are larger than pictures by this are sampled twice each way."""
LABELS = ("rotation", "scale", "translation", "canonical")


class Shots(Dataset[dict[str, Tensor]]):
    """Which frames, and how they are cut and graded.

    `frame` (B, P) numbers among all frames; `place` (B, 3) how size and place vary; `background` and `mirrored` (B,);
    and the grade: `matrix` (B, 3, 3), `curve` (B, 6) gains, contrast, offset and gamma, `blur` and `noise` (B,).
    """

    def __init__(
        self, sessions: Sequence[Session], settings: PortraitSettings, num_backgrounds: int, rank: int = 0
    ):
        self.settings, self.num_backgrounds, self.rank = settings, num_backgrounds, rank
        self.counts = np.array([len(session.rotation) for session in sessions])
        self.firsts = np.cumsum(self.counts) - self.counts
        self.expression = np.concatenate([session.expression for session in sessions])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings, count = self.settings, self.settings.batch_size
        rng = np.random.default_rng([settings.seed, self.rank, index, 47])
        numbers = {
            "frame": self._frames(rng),
            "place": (rng.normal(size=(count, 3)) * settings.jitter * settings.augment).astype(np.float32),
            "background": rng.integers(self.num_backgrounds, size=count),
            "mirrored": rng.random(count) < 0.5 * settings.augment,
            **(_grades(count, rng) if settings.augment else {}),
        }
        made = {name: torch.from_numpy(value) for name, value in numbers.items()}
        return made | shared_draws(settings.seed, index)

    def _frames(self, rng: np.random.Generator) -> np.ndarray:
        """(B, P). Where the settings ask for contrast, of three driving frames the one that differs most."""
        settings, count = self.settings, self.settings.batch_size
        people = rng.integers(len(self.counts), size=count)
        picks = (rng.random((count, 4)) * self.counts[people, None]).astype(np.int64)
        picks += self.firsts[people, None]
        if not settings.pairs:
            return picks[:, :1]
        first, others = picks[:, :1], picks[:, 1:]
        change = np.abs(self.expression[others] - self.expression[first]).sum(-1)
        most = np.where(rng.random(count) < settings.contrast, change.argmax(1), 0)
        return np.concatenate([first, others[np.arange(count), most][:, None]], 1)


def _grades(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of the kinds and sizes of `training.data.compose.random_grade`, less JPEG."""

    def some(chance: float) -> np.ndarray:
        return rng.random(count) < chance

    saturation = np.where(some(0.06), 0.0, rng.uniform(0.4, 1.45, count))[:, None, None]
    matrix = np.eye(3) * saturation + (1 - saturation) * np.array(LUMA)
    mixing = np.eye(3) + 0.1 * rng.normal(size=(count, 3, 3)) * some(0.12)[:, None, None]
    gains = rng.uniform(0.82, 1.15, (count, 1)) * np.exp(rng.normal(size=(count, 3)) * 0.06)
    contrast, offset = rng.uniform(0.82, 1.18, (count, 1)), rng.normal(size=(count, 1)) * 7
    gamma = np.exp(rng.normal(size=(count, 1)) * 0.18)
    numbers = {
        "matrix": matrix @ mixing,
        "curve": np.concatenate([gains, contrast, offset, gamma], 1),
        "blur": np.where(some(0.25), rng.uniform(0.3, 1.2, count), 0.0),
        "noise": np.where(some(0.35), rng.uniform(1, 8, count), 0.0),
    }
    return {name: value.astype(np.float32) for name, value in numbers.items()}


@dataclass(frozen=True)
class ResidentFrames:
    """Frames of all sessions, with their labels in pixels of the render."""

    settings: PortraitSettings
    rgba: Tensor
    """(N, S, S, 4) uint8, premultiplied."""
    points: Tensor
    """(N, 68, 2) pixels."""
    labels: dict[str, Tensor]
    """By name of LABELS (N, ...): those of a crop that is the whole render."""
    backgrounds: Tensor
    """(M, n, n, 3) uint8."""

    @classmethod
    def of(
        cls,
        sessions: Sequence[Session],
        settings: PortraitSettings,
        backgrounds: np.ndarray,
        device: torch.device,
    ) -> ResidentFrames:
        sizes = {session.info.size for session in sessions}
        if len(sizes) != 1:
            raise InputError(f"sessions of one size are needed, got {sorted(sizes)} px; render them again.")
        size = sizes.pop()
        whole = Window(size / 2, size / 2, size)
        labels = [
            motion_labels(session, frame, whole, settings.camera_distance)
            for session in sessions
            for frame in range(len(session.rotation))
        ]
        points = np.concatenate([session.keypoint_xy[:, :NUM_LANDMARKS] for session in sessions])
        rgba = torch.empty(len(points), size, size, 4, dtype=torch.uint8, device=device)
        first = 0
        for session in sessions:
            # Session by session: all of them at once would be in the processor's memory twice.
            last = first + len(session.rgba)
            rgba[first:last] = torch.from_numpy(np.array(session.rgba))
            first = last
        return cls(
            settings,
            rgba,
            torch.from_numpy(points).to(device),
            {name: torch.from_numpy(np.stack([row[name] for row in labels])).to(device) for name in LABELS},
            torch.from_numpy(backgrounds).to(device),
        )

    def batch(self, shots: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `data.Pairs` gives, or for single pictures what `training.data.portraits.Portraits` gives."""
        frame = shots["frame"]
        middle, side = self._windows(frame[:, 0], shots["place"])
        pictures = self._graded(self._composed(frame, middle, side, shots), shots)
        points = (self.points[frame] - middle[:, None, None]) * (2 / side)[:, None, None, None]
        if self.settings.pairs:
            return {
                "reference": pictures[:, 0],
                "driving": pictures[:, 1:],
                "points": points[:, 1:],
                "draw_reference": shots["draw_reference"],
                "draw_depth": shots["draw_depth"],
            }
        labels = {name: label[frame[:, 0]] for name, label in self.labels.items()}
        # In a smaller crop a head is larger, and elsewhere: linear in the render's pixels.
        size = self.rgba.shape[1]
        labels["scale"] = labels["scale"] * (size / side)[:, None]
        shift = labels["translation"][:, :2] * (size / 2) + size / 2 - middle
        labels["translation"] = F.pad(shift * (2 / side)[:, None], (0, 1))
        return {"image": pictures[:, 0], "points": points[:, 0], **labels}

    def _windows(self, frame: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Middles (B, 2) and sides (B,) in pixels of the render; as `training.data.portraits.crop_window`."""
        settings, size = self.settings, self.rgba.shape[1]
        low, high = self.points[frame].amin(1), self.points[frame].amax(1)
        wanted = (high - low).amax(1) * settings.crop_scale
        shift = constant((0.0, settings.crop_vy), frame.device) * wanted[:, None]
        side = wanted * (place[:, 0] * 0.12).exp()
        middle = (low + high) / 2 + shift + place[:, 1:] * 0.05 * side[:, None]
        side = side.clamp(32, size)
        half = side[:, None] / 2
        return torch.minimum(torch.maximum(middle, half), size - half), side

    def _composed(self, frame: Tensor, middle: Tensor, side: Tensor, shots: dict[str, Tensor]) -> Tensor:
        """(B, P, 3, n, n), 0 to 255."""
        people, size, n = frame.shape[1], self.rgba.shape[1], self.settings.size_px
        taps = 2 if size >= COARSE * n else 1
        line = (torch.arange(n * taps, device=frame.device) + 0.5) / (n * taps) - 0.5
        across, down = ((middle[:, axis, None] + line * side[:, None]) * (2 / size) - 1 for axis in (0, 1))
        grid = torch.stack(
            [across[:, None].expand(-1, len(line), -1), down[:, :, None].expand(-1, -1, len(line))], -1
        )
        rgba = self.rgba[frame.flatten()].permute(0, 3, 1, 2).float()
        cut = F.grid_sample(
            rgba, grid.repeat_interleave(people, 0), padding_mode="border", align_corners=False
        )
        cut = F.avg_pool2d(cut, taps) if taps > 1 else cut
        behind = self.backgrounds[shots["background"]].permute(0, 3, 1, 2).float()
        behind = torch.where(shots["mirrored"][:, None, None, None], behind.flip(3), behind)
        colour, cover = cut.unflatten(0, (-1, people)).split((3, 1), 2)
        return colour + behind[:, None] * (1 - cover / 255)

    def _graded(self, pictures: Tensor, shots: dict[str, Tensor]) -> Tensor:
        """(B, P, 3, n, n) -> (B, P, n, n, 3) uint8."""
        if "matrix" in shots:
            gains, contrast, offset, gamma = shots["curve"][:, None, :, None, None].split((3, 1, 1, 1), 2)
            mixed = torch.einsum("bij,bpjhw->bpihw", shots["matrix"], pictures).clamp(0, 255)
            lit = ((mixed - 128) * contrast + 128 + offset) * gains
            graded = (lit.clamp(0, 255) / 255) ** gamma * 255
            # A Gaussian this narrow is three pixels wide.
            spread = shots["blur"] * (self.settings.size_px / 256)
            beside = torch.exp(-0.5 / spread.clamp(min=1e-3) ** 2)[:, None, None, None, None]
            blurred = _blurred(_blurred(graded, beside).mT, beside).mT
            grain = torch.randn_like(blurred[:, :, :1]) * shots["noise"][:, None, None, None, None]
            pictures = blurred + grain
        return (pictures + 0.5).clamp(0, 255).byte().movedim(2, -1)


def _blurred(x: Tensor, beside: Tensor) -> Tensor:
    """Along the last axis, with weights 1 for a pixel and `beside` for its neighbours."""
    wide = torch.cat([x[..., :1], x, x[..., -1:]], -1)
    return (x + beside * (wide[..., :-2] + wide[..., 2:])) / (1 + 2 * beside)


@dataclass(frozen=True)
class ResidentClips:
    """All talking clips, fitted once."""

    frames: Tensor
    """(N, n, n, 3) uint8, clip behind clip."""
    points: Tensor
    """(N, 68, 2) crop units."""
    firsts: Tensor
    """Where each clip begins."""

    @classmethod
    def of(cls, paths: Sequence[Path], size_px: int, device: torch.device) -> ResidentClips:
        frames, points = [], []
        for path in paths:
            clip = read_clip(path)
            frames.append(fitted(torch.from_numpy(clip.frames).to(device), size_px))
            points.append(torch.from_numpy(clip.landmarks) * (2 / clip.frames.shape[1]) - 1)
        lengths = torch.tensor([len(own) for own in frames])
        firsts = lengths.cumsum(0) - lengths
        return cls(torch.cat(frames), torch.cat(points).to(device), firsts.to(device))

    def batch(self, cuts: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `data.Clips` gives."""
        first = self.firsts[cuts["clip"]]
        rows = first[:, None] + cuts["rows"]
        others = {name: cuts[name] for name in ("draw_reference", "draw_depth", "phase")}
        return {
            "reference": self.frames[first + cuts["reference"]],
            "driving": self.frames[rows],
            "points": self.points[rows],
            **others,
        }

"""One scored frame, as gauges see it, and sums that forget the frames behind them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vivant.face.points import NUM_WITH_IRIS, Landmarks


@dataclass(frozen=True)
class Shown:
    """A finished picture beside what it should follow, both uint8 RGB (S, S, 3) of one size."""

    index: int
    """Of the frame in the output, from 0."""
    output: np.ndarray
    target: np.ndarray
    """The true picture in self-reenactment, the driver's in cross-reenactment."""
    source: np.ndarray
    """The portrait in the same crop."""
    output_face: Landmarks | None
    target_face: Landmarks | None
    source_face: Landmarks | None

    @cached_property
    def output_tensor(self) -> Tensor:
        """(1, 3, S, S) in [0, 1]."""
        return as_tensor(self.output)

    @cached_property
    def target_tensor(self) -> Tensor:
        """(1, 3, S, S) in [0, 1]."""
        return as_tensor(self.target)


class Gauge(Protocol):
    """Measures one animation, frame after frame, in memory that does not grow with its length."""

    def update(self, shown: Shown) -> None:
        """The next scored frame."""

    def numbers(self) -> dict[str, float]:
        """What was found, by metric; nan where it could not be measured."""


class Means:
    """Running means by name, of what is not nan."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: float) -> None:
        self._sums.setdefault(name, 0.0)
        self._counts.setdefault(name, 0)
        if np.isfinite(value):
            self._sums[name] += float(value)
            self._counts[name] += 1

    @property
    def values(self) -> dict[str, float]:
        """nan where nothing finite came."""
        return {
            name: total / self._counts[name] if self._counts[name] else float("nan")
            for name, total in self._sums.items()
        }


def as_tensor(picture: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) as (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 255


def mesh_of(face: Landmarks | None) -> np.ndarray:
    """(478, 3), nan where there is no face."""
    if face is None:
        return np.full((NUM_WITH_IRIS, 3), np.nan, np.float32)
    return face.points

"""Where live pictures go: one interface for files, streaming servers, windows and virtual cameras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self

import numpy as np


class Outlet(ABC):
    """One output, used by one thread; a context manager. Raises InputError where it cannot be written."""

    carries_sound: ClassVar[bool] = False

    @property
    def is_open(self) -> bool:
        """Whether anybody still wants pictures."""
        return True

    @abstractmethod
    def write(self, image: np.ndarray, seconds: float) -> None:
        """A picture, uint8 RGB (H, W, 3), and its time."""

    def sound(self, samples: np.ndarray) -> None:
        """The next samples, float32 mono (S,) in [-1, 1], where it `carries_sound`."""
        raise AssertionError(f"{type(self).__name__} carries no sound")

    def attend(self) -> None:  # noqa: B027 (nothing to do for most)
        """Called often, also while there are no pictures."""

    @abstractmethod
    def close(self) -> None:
        """Finish. Safe to call twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture cut or filled with black to that size, contiguous: an output's size does not change."""
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    whole = np.zeros((height, width, 3), np.uint8)
    part = image[:height, :width]
    whole[: part.shape[0], : part.shape[1]] = part
    return whole

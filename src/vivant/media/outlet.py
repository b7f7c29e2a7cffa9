"""Where live pictures go: one interface for files, streaming servers, windows and virtual cameras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar, Self

import cv2
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
    """The picture at that size, contiguous: an output's size does not change when smaller pictures are drawn.

    As large as fits, in the middle of black; what is a pixel too large, for outputs have even sides, is cut.
    """
    if image.shape[0] - height in (0, 1) and image.shape[1] - width in (0, 1):
        return np.ascontiguousarray(image[:height, :width])
    scale = min(width / image.shape[1], height / image.shape[0])
    scaled = ((round(image.shape[1] * scale), width), (round(image.shape[0] * scale), height))
    # Sides that come within a pixel of the whole are the whole: no line of black beside a picture of odd size.
    inner = [full if full - side <= 1 else side for side, full in scaled]
    drawn = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    whole = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    whole[top : top + inner[1], left : left + inner[0]] = drawn
    return whole

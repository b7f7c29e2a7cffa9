"""What flows through the project: frames and sound, each with its own time.

Times are exact fractions of a second, so that nothing drifts however long a clip is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One picture of a clip."""

    image: np.ndarray
    """uint8 RGB, shape (height, width, 3), upright (rotation metadata already applied)."""
    time: Fraction
    """Presentation time in seconds from the start of the clip."""

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(
                f"a frame is uint8 (height, width, 3), got {self.image.dtype} {self.image.shape}"
            )

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"Frame({width}x{height}, time={float(self.time):.3f}s)"


@dataclass(frozen=True)
class AudioChunk:
    """A run of samples."""

    samples: np.ndarray
    """float32 in [-1, 1], shape (num_samples,) mono."""
    sample_rate_hz: int
    time: Fraction
    """Time of the first sample, in seconds from the start of the clip."""

    def __post_init__(self) -> None:
        if self.samples.dtype != np.float32 or self.samples.ndim != 1:
            raise ValueError(
                f"audio is float32 (num_samples,), got {self.samples.dtype} {self.samples.shape}"
            )

    def __repr__(self) -> str:
        return f"AudioChunk({len(self.samples)} samples at {self.sample_rate_hz} Hz, time={float(self.time):.3f}s)"


class Clip(Protocol):
    """Anything that moves: a video file, a folder of pictures, an animated picture, one still picture.

    Iterating gives frames in presentation order and starts again from the beginning each time.
    """

    @property
    def path(self) -> Path: ...
    @property
    def width(self) -> int:
        """Pixels, upright."""

    @property
    def height(self) -> int:
        """Pixels, upright."""

    @property
    def frame_rate(self) -> Fraction:
        """Average, in frames per second."""

    @property
    def duration(self) -> Fraction | None:
        """Seconds until the last frame has been shown; None where nothing tells."""

    @property
    def shown_until(self) -> Fraction | None:
        """The same, as far as it may be relied on; None where only reading to the end tells."""

    @property
    def num_frames_estimate(self) -> int | None:
        """How many frames to expect, for progress bars only."""

    @property
    def has_audio(self) -> bool: ...
    @property
    def is_variable(self) -> bool:
        """Whether the frames are unevenly spaced in time."""

    @property
    def is_still(self) -> bool:
        """Whether this is one single picture."""

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def close(self) -> None: ...


class FrameWriter(Protocol):
    """A sink for pictures, one per frame. Leaving its `with` block by an exception leaves no output."""

    def write(self, image: np.ndarray) -> None:
        """Append one uint8 RGB picture, shape (height, width, 3)."""

    def close(self) -> None:
        """Finish the output and move it to its name."""

    def abort(self) -> None:
        """Throw the unfinished output away."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

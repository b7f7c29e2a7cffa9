"""What flows through the project: frames and sound, each with its own time.

Times are exact fractions of a second, so that nothing drifts however long a clip is.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

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
            raise ValueError(f"a frame is uint8 (height, width, 3), got {self.image.dtype} {self.image.shape}")

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
            raise ValueError(f"audio is float32 (num_samples,), got {self.samples.dtype} {self.samples.shape}")

    def __repr__(self) -> str:
        return f"AudioChunk({len(self.samples)} samples at {self.sample_rate_hz} Hz, time={float(self.time):.3f}s)"

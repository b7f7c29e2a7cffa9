"""Noticing that a clip cuts to another shot, from thumbnails: about half a millisecond, no look-ahead."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

THUMBNAIL_PX = 24
PIXELS_PER_THUMBNAIL_PIXEL = 4
HISTOGRAM_BINS = 16
# Both must be exceeded: layout changes with motion, colours change with light; a cut changes both.
LAYOUT_CHANGE = 0.06
COLOUR_CHANGE = 0.2
# A cut stands out from the frames before it; a shaking camera does not.
TIMES_USUAL = 3.0
USUAL_MEMORY = 0.8


@dataclass(frozen=True)
class Look:
    """A frame at a glance."""

    layout: np.ndarray
    """float32 (24, 24, 3): a thumbnail without its mean, so that exposure does not matter."""
    colours: np.ndarray
    """float64 (3, 16): share of the pixels per channel and brightness."""

    def layout_change(self, other: Look) -> float:
        return float(np.abs(self.layout - other.layout).mean())

    def is_other_shot(self, other: Look, least_layout_change: float = LAYOUT_CHANGE) -> bool:
        """Whether two frames can hardly be of the same shot."""
        colour_change = float(np.abs(self.colours - other.colours).sum(1).mean() / 2)
        return self.layout_change(other) > least_layout_change and colour_change > COLOUR_CHANGE


def look_at(image: np.ndarray) -> Look:
    """The look of a uint8 RGB frame."""
    step = max(1, min(image.shape[:2]) // (THUMBNAIL_PX * PIXELS_PER_THUMBNAIL_PIXEL))
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    counts = [np.histogram(small[..., channel], HISTOGRAM_BINS, (0, 1))[0] for channel in range(3)]
    return Look(small - small.mean(axis=(0, 1)), np.stack(counts) / THUMBNAIL_PX**2)


@dataclass
class CutDetector:
    """Compares each frame with the one before. One per clip; what it remembers is all there is to it."""

    before: Look | None = None
    """The last frame."""
    usual_change: float = 0.0
    """Mean layout change of the frames before, the latest counting most."""

    def is_cut(self, look: Look) -> bool:
        """Whether the next frame, seen at a glance, begins a new shot. The first frame does not."""
        before, self.before = self.before, look
        if before is None:
            return False
        cut = look.is_other_shot(before, max(LAYOUT_CHANGE, TIMES_USUAL * self.usual_change))
        change = look.layout_change(before)
        self.usual_change = 0.0 if cut else USUAL_MEMORY * self.usual_change + (1 - USUAL_MEMORY) * change
        return cut

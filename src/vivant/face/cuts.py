"""Noticing that a clip cuts to another shot, from thumbnails: about half a millisecond, no look-ahead."""

from __future__ import annotations

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


class CutDetector:
    """Compares each frame with the one before. One per clip."""

    def __init__(self) -> None:
        self._thumbnail: np.ndarray | None = None
        self._colours: np.ndarray | None = None
        self._usual = 0.0

    def is_cut(self, image: np.ndarray) -> bool:
        """Whether a uint8 RGB frame begins a new shot. The first frame of a clip does not."""
        size = (THUMBNAIL_PX, THUMBNAIL_PX)
        step = max(1, min(image.shape[:2]) // (THUMBNAIL_PX * PIXELS_PER_THUMBNAIL_PIXEL))
        small = cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        # Without its mean, a thumbnail does not notice exposure.
        thumbnail = small - small.mean(axis=(0, 1))
        colours = np.stack(
            [np.histogram(small[..., channel], HISTOGRAM_BINS, (0, 1))[0] for channel in range(3)]
        ) / (THUMBNAIL_PX**2)
        previous, previous_colours = self._thumbnail, self._colours
        self._thumbnail, self._colours = thumbnail, colours
        if previous is None or previous_colours is None:
            return False
        layout = float(np.abs(thumbnail - previous).mean())
        colour = float(np.abs(colours - previous_colours).sum(1).mean() / 2)
        cut = layout > max(LAYOUT_CHANGE, TIMES_USUAL * self._usual) and colour > COLOUR_CHANGE
        self._usual = 0.0 if cut else USUAL_MEMORY * self._usual + (1 - USUAL_MEMORY) * layout
        return cut

"""Where face, mouth and eyes are in a picture: boxes around the true landmarks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

REGIONS = {"face": range(0, 68), "mouth": range(48, 68), "eyes": range(36, 48)}
"""Multi-PIE points of each region. The face reaches from brows to chin."""
MARGIN = 0.1
"""Added on every side of mouth and eyes, relative to the longer side of the face."""
SMALLEST_PX = 8


class Box(NamedTuple):
    """A rectangle of whole pixels; ends are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def rows(self) -> slice:
        return slice(self.y0, self.y1)

    @property
    def columns(self) -> slice:
        return slice(self.x0, self.x1)


def region_boxes(landmarks: np.ndarray, size_px: int) -> dict[str, Box]:
    """Boxes by region in a square picture, from its true landmarks (68 or more, 2) in crop units (-1 to 1)."""
    pixels = (landmarks[:68] + 1) * (size_px / 2)
    extent = float((pixels.max(0) - pixels.min(0)).max())
    return {
        name: _box(pixels[list(indices)], 0.0 if name == "face" else MARGIN * extent, size_px)
        for name, indices in REGIONS.items()
    }


def _box(points: np.ndarray, margin: float, size_px: int) -> Box:
    least = min(SMALLEST_PX, size_px)
    ends = []
    for axis in (0, 1):
        low = int(np.floor(points[:, axis].min() - margin))
        high = int(np.ceil(points[:, axis].max() + margin))
        low = min(max(low, 0), size_px - least)
        ends.append((low, min(max(high, low + least), size_px)))
    (x0, x1), (y0, y1) = ends
    return Box(x0, y0, x1, y1)

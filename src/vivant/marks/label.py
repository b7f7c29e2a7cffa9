"""A label that everybody can read, in the lower left corner."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = "AI-generated"
HEIGHT_SHARE, SMALLEST_PX = 0.035, 11
_GROUND, _INK = (0, 0, 0, 150), (255, 255, 255, 235)


class Label:
    """Draws the label; made anew for each size of picture."""

    def __init__(self, text: str = TEXT) -> None:
        self.text = text
        self._size = (0, 0)
        self._drawn: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))

    def draw(self, image: np.ndarray) -> np.ndarray:
        """A labelled copy of a picture, uint8 RGB (H, W, 3)."""
        if image.shape[:2] != self._size:
            self._size = (image.shape[0], image.shape[1])
            self._drawn = self._rendered(*self._size)
        colour, opacity = self._drawn
        height, width = colour.shape[:2]
        result = image.copy()
        under = result[-height:, :width].astype(np.float32)
        result[-height:, :width] = np.rint(under + (colour - under) * opacity).astype(np.uint8)
        return result

    def _rendered(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Colour (h, w, 3) and opacity (h, w, 1) of the corner."""
        size = max(SMALLEST_PX, round(min(height, width) * HEIGHT_SHARE))
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(self.text)
        pad = size // 2
        corner = Image.new("RGBA", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad), _GROUND)
        ImageDraw.Draw(corner).text((pad - left, pad - top), self.text, font=font, fill=_INK)
        pixels = np.asarray(corner, np.float32)[:height, :width]
        return pixels[..., :3], pixels[..., 3:] / 255

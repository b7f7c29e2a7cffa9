"""What cameras and codecs do to pictures: blur, grain, resampling and JPEG, applied after composing.

The same settings go to all frames of a clip so that only the grain flickers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Degradation:
    """How a camera spoils a picture; neutral values change nothing."""

    blur_px: float = 0.0
    """Standard deviation of the blur."""
    grain: float = 0.0
    """Standard deviation of the noise in grey levels (0..255)."""
    jpeg_quality: int = 100
    """100 leaves the picture alone."""
    shrink: float = 1.0
    """Scale to which the picture is reduced and enlarged again."""


def sample_degradation(rng: np.random.Generator) -> Degradation:
    """Random damage; two in five pictures stay clean."""
    if rng.uniform() < 0.4:
        return Degradation()
    return Degradation(
        blur_px=rng.uniform(0.3, 1.4) if rng.uniform() < 0.4 else 0.0,
        grain=rng.uniform(1, 9) if rng.uniform() < 0.5 else 0.0,
        jpeg_quality=int(rng.integers(35, 93)) if rng.uniform() < 0.5 else 100,
        shrink=rng.uniform(0.5, 0.95) if rng.uniform() < 0.25 else 1.0,
    )


def degrade(image: Array, degradation: Degradation, rng: np.random.Generator) -> Array:
    """A spoiled copy of image u8 [H, W, 3]."""
    height, width = image.shape[:2]
    result = image
    if degradation.shrink < 1:
        small = (max(1, round(width * degradation.shrink)), max(1, round(height * degradation.shrink)))
        result = cv2.resize(result, small, interpolation=cv2.INTER_AREA)
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR)
    if degradation.blur_px > 0:
        result = cv2.GaussianBlur(result, (0, 0), degradation.blur_px)
    if degradation.grain > 0:
        coarse = cv2.GaussianBlur(rng.normal(size=result.shape).astype(np.float32), (0, 0), 0.6)
        noise = coarse / coarse.std() * degradation.grain
        result = np.clip(np.rint(result + noise), 0, 255).astype(np.uint8)
    if degradation.jpeg_quality < 100:
        quality = [cv2.IMWRITE_JPEG_QUALITY, degradation.jpeg_quality]
        _, data = cv2.imencode(".jpg", result, quality)
        result = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(result)

"""For tests of shipped weights: pictures that lean, and how far a face leans."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from vivant.face.framing import default_detector, default_mesh


def moved(picture: Tensor, degrees: float = 0.0, shift_px: float = 0.0) -> Tensor:
    """(3, n, n) in [0, 1], rolled about its middle, then shifted to the right."""
    side = picture.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    matrix[0, 2] += shift_px
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    rolled = cv2.warpAffine(
        pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(rolled).permute(2, 0, 1).clamp(0, 1)


def roll_degrees(picture: Tensor) -> float:
    """Of the eyes, by the face mesh; counted as `moved` counts."""
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    large = cv2.resize(np.ascontiguousarray(pixels), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    landmarks = default_mesh().landmarks(large, default_detector().detect(large, tiles=False)[0])
    assert landmarks is not None
    across = landmarks.xy[263] - landmarks.xy[33]
    return float(-np.degrees(np.arctan2(across[1], across[0])))

"""Where something is in a picture, and how sharp a picture is."""

from __future__ import annotations

import cv2
import numpy as np


def hull(points: np.ndarray, size_px: int) -> np.ndarray:
    """The convex hull of points (N, 2) in pixels: 1 inside, 0 outside, uint8 (size, size)."""
    mask = np.zeros((size_px, size_px), np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(points).astype(np.int32)), 1)
    return mask


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of the grey values of a uint8 RGB picture, in squared grey levels."""
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())

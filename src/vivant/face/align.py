"""Putting a face into a fixed place: the similarity that brings a few of its points onto given ones, and the warp."""

from __future__ import annotations

import cv2
import numpy as np


def similarity(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift (2, 3) that bring points (N, 2) closest to targets (N, 2).

    Least squares in closed form (Umeyama, "Least-squares estimation of transformation parameters", 1991). Raises
    ValueError where all points fall together.
    """
    points, targets = points.astype(np.float64), targets.astype(np.float64)
    centred, aimed = points - points.mean(0), targets - targets.mean(0)
    spread = float((centred**2).sum())
    if spread == 0:
        raise ValueError("points that all fall together have no direction")
    left, singular, right = np.linalg.svd(aimed.T @ centred)
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float((singular * signs).sum()) / spread
    matrix = np.empty((2, 3))
    matrix[:, :2] = scale * rotation
    matrix[:, 2] = targets.mean(0) - matrix[:, :2] @ points.mean(0)
    return matrix


def warped(image: np.ndarray, matrix: np.ndarray, size_px: int) -> np.ndarray:
    """The uint8 picture (H, W, 3) seen through a (2, 3) matrix: (size, size, 3), black outside, cubic."""
    return cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_CUBIC)

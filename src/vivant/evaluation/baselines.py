"""What a network must beat: showing the source, bending it by true landmarks, warping it by the true flow.

All take what only the renderer knows, so they are not methods but yardsticks. Pictures are uint8 RGB (S, S, 3).
"""

from __future__ import annotations

import cv2
import numpy as np

from vivant.evaluation.piecewise import PiecewiseAffine

BORDER = np.array([[x, y] for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)], np.float32)
"""Eight points on the edge of the picture (crop units) that do not move."""


def copy_source(source: np.ndarray) -> np.ndarray:
    """The source picture, unmoved."""
    return source


def landmark_affine(source: np.ndarray, source_points: np.ndarray, driving_points: np.ndarray) -> np.ndarray:
    """The source, bent so that its landmarks lie on the driving ones.

    Delaunay triangles over the driving points (K, 2) in crop units and eight fixed points on the border; affine
    within each triangle.
    """
    size = len(source)
    driving, moved = (
        (np.concatenate([points, BORDER]) + 1) * (size / 2) for points in (driving_points, source_points)
    )
    return _sampled(source, PiecewiseAffine(driving, size).positions(moved))


def true_flow_warp(source: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The source, moved by the renderer's flow (n, n, 2) from driving to source, in crop units; nothing painted in.

    Background has no flow, so where the head moved away the source's head stays visible.
    """
    size = len(source)
    dense = cv2.resize(flow, (size, size), interpolation=cv2.INTER_LINEAR) * np.float32(size / 2)
    at = np.arange(size, dtype=np.float32)
    return _sampled(source, np.stack(np.meshgrid(at, at), -1) + dense)


def _sampled(source: np.ndarray, where: np.ndarray) -> np.ndarray:
    return cv2.remap(source, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

"""Expression without a 3D face model: what the 468-point mesh does inside the head's own frame.

Turned, scaled and shifted away by the rigid points of `pose.py`, so what is left is shape: who it is and what the
face does. Between pictures of one person the first cancels; between two people only changes compare.
"""

from __future__ import annotations

import numpy as np

from vivant.evaluation.metrics.pose import NEUTRAL, RIGID_POINTS


def in_head_frame(meshes: np.ndarray) -> np.ndarray:
    """Meshes (T, 468 or more, 3) as a frontal face shows them, in outer eye distances: float64, same shape.

    A row with nan gives nan.
    """
    points = np.asarray(meshes, np.float64)
    target = NEUTRAL - NEUTRAL.mean(0)
    placed = np.full_like(points, np.nan)
    for index, mesh in enumerate(points):
        if not np.isfinite(mesh).all():
            continue
        rigid = mesh[list(RIGID_POINTS)]
        centred = rigid - rigid.mean(0)
        left, sizes, right = np.linalg.svd(target.T @ centred)
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        scale = float((sizes * signs).sum()) / float(np.square(centred).sum())
        placed[index] = scale * (mesh - rigid.mean(0)) @ (left * signs @ right).T + NEUTRAL.mean(0)
    return placed


def expression_error(shapes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(T,) mean distance of points (T, K, 3) of `in_head_frame` to the true ones, hundredths of the eye distance."""
    return np.asarray(100 * np.linalg.norm(shapes - truth, axis=-1).mean(-1))

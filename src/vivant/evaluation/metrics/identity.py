"""Texture kept: a cheap stand-in for identity that needs no recognition network.

The face of a frame is laid back onto the portrait's own mesh, triangle by triangle, and compared with the portrait.
It sees blur, smear and lost features; it does not know who somebody is.
"""

from __future__ import annotations

import cv2
import numpy as np

from vivant.evaluation.metrics.series import correlation
from vivant.evaluation.piecewise import PiecewiseAffine

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def texture_kept(
    frame: np.ndarray, portrait: np.ndarray, laid_back: PiecewiseAffine, mesh: np.ndarray
) -> float:
    """Pearson correlation of luma inside the portrait's mesh.

    Args:
        frame: uint8 RGB (S, S, 3), with its mesh (468, 2) in pixels.
        portrait: uint8 RGB (S, S, 3).
        laid_back: made from the portrait's mesh (468, 2) and S.
    """
    where = laid_back.positions(mesh)
    flat = cv2.remap(frame, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = laid_back.inside
    return correlation(flat[inside] @ LUMA, portrait[inside] @ LUMA)

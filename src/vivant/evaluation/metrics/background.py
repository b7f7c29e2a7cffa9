"""Background kept: how much changes where nobody is."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

HEAD_OVER_MESH = 1.9
"""The head with hair and ears is taken to fill the face mesh, enlarged this much about its centre."""


def background_error(frames: Tensor, truth: Tensor, background: Tensor) -> Tensor:
    """(T,) mean absolute difference, in levels of 255, over the pixels where `background` (T, H, W) is true.

    frames and truth are (T, 3, H, W) in [0, 1]. nan where a frame has no such pixel.
    """
    difference = (frames.double() - truth.double()).abs().mean(1) * 255
    weight = background.to(difference.dtype)
    return (difference * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def outside_heads(meshes: Sequence[np.ndarray], size_px: int) -> np.ndarray:
    """Bool (size, size): pixels outside the enlarged hulls of all given face meshes (N, 2), in pixels.

    Shoulders and body count as background here: nothing in this project segments them.
    """
    inside = np.zeros((size_px, size_px), np.uint8)
    for mesh in meshes:
        centre = (mesh.min(0) + mesh.max(0)) / 2
        head = centre + HEAD_OVER_MESH * (mesh - centre)
        cv2.fillConvexPoly(inside, cv2.convexHull(np.rint(head).astype(np.int32)), 1)
    return inside == 0

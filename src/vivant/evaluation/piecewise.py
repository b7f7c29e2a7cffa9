"""Piecewise-affine maps between two sets of points: the triangles of one picture, laid onto another."""

from __future__ import annotations

import numpy as np
from scipy.spatial import Delaunay


class PiecewiseAffine:
    """Triangles over the points of one picture; maps its pixels to where they lie among other points."""

    inside: np.ndarray
    """bool (S, S): pixels that lie in a triangle."""

    def __init__(self, points: np.ndarray, size_px: int) -> None:
        """points (N, 2) in pixels; pixel centres are at .5. Raises ValueError for points on one line."""
        mesh = Delaunay(np.asarray(points, np.float64))
        at = np.arange(size_px) + 0.5
        pixels = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
        triangle = mesh.find_simplex(pixels)
        found = triangle >= 0
        self.inside = found.reshape(size_px, size_px)
        self._pixels = pixels.reshape(size_px, size_px, 2).astype(np.float32)
        self._corners = mesh.simplices[triangle[found]]
        transform = mesh.transform[triangle[found]]
        first_two = np.einsum("nij,nj->ni", transform[:, :2], pixels[found] - transform[:, 2])
        weights = np.concatenate([first_two, 1 - first_two.sum(1, keepdims=True)], 1)
        # A sliver (closed lids) has no transform; its pixels go to the middle of its corners.
        self._weights = np.where(np.isfinite(weights).all(1, keepdims=True), weights, 1 / 3)

    def positions(self, points: np.ndarray) -> np.ndarray:
        """float32 (S, S, 2): where each pixel lies, as array indices for cv2.remap, when the points are at `points`.

        points (N, 2) in pixels, in the order given at the start. Pixels outside all triangles stay.
        """
        moved = np.einsum("ni,nic->nc", self._weights, np.asarray(points, np.float64)[self._corners])
        where = self._pixels - 0.5
        where[self.inside] = moved - 0.5
        return where

"""Landmark error: how far points are from the true ones, in outer eye distances."""

from __future__ import annotations

from torch import Tensor


def landmark_error(points: Tensor, truth: Tensor, eye_distance: Tensor | float) -> Tensor:
    """(T,) mean distance of points (T, K, 2 or more) to truth (T, K, 2 or more), x and y only.

    eye_distance: distance of the outer eye corners of that person facing the camera, in the same unit as the
    points. (Measured in the turned picture itself it would shrink with yaw and blow the error up.)
    """
    return (points[..., :2] - truth[..., :2]).norm(dim=-1).mean(-1) / eye_distance

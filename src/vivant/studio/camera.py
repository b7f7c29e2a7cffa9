"""Pinhole camera of the studio and the projection of keypoints from their canonical positions.

Camera axes: x right in the image, y up, z towards the camera; the camera sits at the origin and looks along -z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

UNIT_CM = 10.0
"""Canonical keypoints, their offsets and camera distances are stored in units of 10 cm."""


@dataclass(frozen=True)
class Camera:
    """A square image of size_px with the optical centre in the middle."""

    focal_px: float
    size_px: int

    @property
    def principal_point(self) -> tuple[float, float]:
        """Optical centre in pixels."""
        return self.size_px / 2, self.size_px / 2

    def project(self, points: Array) -> Array:
        """Image x, y in pixels and distance along the axis in cm, [V, 3], of camera-space points [V, 3]."""
        distance = -points[:, 2]
        scale = self.focal_px / distance
        centre = self.size_px / 2
        screen = np.stack([centre + points[:, 0] * scale, centre - points[:, 1] * scale, distance], 1)
        return screen.astype(np.float32)

    def head_projection(self, head_origin: Array) -> tuple[Array, float]:
        """(s, tx, ty) and the camera distance in 10 cm of a head whose origin is at head_origin [3] (cm).

        s is pixels per 10 cm at the head origin's depth, (tx, ty) the projected head origin in pixels.
        """
        distance = -float(head_origin[2])
        scale = self.focal_px / distance
        centre = self.size_px / 2
        projection = np.array(
            [scale * UNIT_CM, centre + head_origin[0] * scale, centre - head_origin[1] * scale]
        )
        return projection, distance / UNIT_CM


def project_keypoints(
    canonical: Array,
    delta: Array,
    rotation: Array,
    projection: Array,
    camera_distance: float,
    principal_point: tuple[float, float],
) -> Array:
    """Pixel positions [K, 2] of keypoints: exact perspective from pose and expression offsets.

    With q = R (x_c + delta), flipped to y down, and z its third component (10 cm, towards the camera)::

        p = c + (s * q_xy + (t - c)) / (1 - z / D)

    canonical and delta are [K, 3] (10 cm, head frame), rotation [3, 3] maps column vectors from head to camera,
    projection is (s, tx, ty), D = camera_distance (10 cm), c = principal_point in pixels.
    """
    rotated = (canonical + delta) @ rotation.T
    centre = np.asarray(principal_point, np.float64)
    flat = projection[0] * rotated[:, :2] * np.array([1.0, -1.0]) + (projection[1:3] - centre)
    return np.asarray(centre + flat / (1 - rotated[:, 2:] / camera_distance))

"""Head rotations, in the convention of the motion networks: row vectors, so a point turns as `x @ R`.

Axes: x right, y down, z inward. Angles in degrees. Legend: ... any leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ANGLE_STEP_DEGREES = 3.0
ANGLE_OFFSET_DEGREES = 97.5
"""Angle bins: bin i stands for 3 i - 97.5 degrees."""


def rotation_from_degrees(pitch: Tensor, yaw: Tensor, roll: Tensor) -> Tensor:
    """R = (Rz(roll) Ry(yaw) Rx(pitch))^T, right-handed elementary matrices: angles (...) -> (..., 3, 3)."""
    p, y, r = (angle * (math.pi / 180) for angle in (pitch, yaw, roll))
    cos_p, sin_p, cos_y, sin_y, cos_r, sin_r = p.cos(), p.sin(), y.cos(), y.sin(), r.cos(), r.sin()
    entries = [
        [cos_r * cos_y, sin_r * cos_y, -sin_y],
        [cos_r * sin_y * sin_p - sin_r * cos_p, sin_r * sin_y * sin_p + cos_r * cos_p, cos_y * sin_p],
        [cos_r * sin_y * cos_p + sin_r * sin_p, sin_r * sin_y * cos_p - cos_r * sin_p, cos_y * cos_p],
    ]
    return torch.stack([torch.stack(row, -1) for row in entries], -2)


def degrees_from_rotation(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pitch, yaw and roll, each (...), of rotations (..., 3, 3); yaw within 90 degrees of the front."""
    r = rotation
    pitch = torch.atan2(r[..., 1, 2], r[..., 2, 2])
    yaw = torch.atan2(-r[..., 0, 2], torch.hypot(r[..., 0, 0], r[..., 0, 1]))
    roll = torch.atan2(r[..., 0, 1], r[..., 0, 0])
    return pitch * (180 / math.pi), yaw * (180 / math.pi), roll * (180 / math.pi)


def degrees_from_bins(logits: Tensor) -> Tensor:
    """Expected angle under the softmax of the bins: (..., num_bins) -> (...). Computed in float32."""
    probability = logits.float().softmax(-1)
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    return ANGLE_STEP_DEGREES * (probability * bins).sum(-1) - ANGLE_OFFSET_DEGREES

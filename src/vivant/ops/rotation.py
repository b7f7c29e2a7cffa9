"""Head rotations, in the convention of the motion networks: row vectors, so a point turns as `x @ R`.

Axes: x right, y down, z inward. Angles in degrees. Legend: ... any leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vivant.ops.exact import exactly

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


def turn_angle(start: Tensor, end: Tensor) -> Tensor:
    """Radians (...) of the shortest turn from one rotation (..., 3, 3) to another; 0 to pi."""
    return _turn(start, end)[1]


@exactly
def rotation_between(start: Tensor, end: Tensor, share: Tensor | float) -> Tensor:
    """Rotations (..., 3, 3) a share (...) of the way along the shortest turn: 0 is start, 1 is end.

    Half turns have no defined axis: there start is given for every share. A head does not turn by them.
    """
    axis, angle = _turn(start, end)
    part = angle * share
    unit = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    zero = torch.zeros_like(angle)
    x, y, z = unit.unbind(-1)
    cross = torch.stack(
        [torch.stack([zero, -z, y], -1), torch.stack([z, zero, -x], -1), torch.stack([-y, x, zero], -1)], -2
    )
    identity = torch.eye(3, dtype=end.dtype, device=end.device)
    sine = part.sin()[..., None, None]
    return (identity + sine * cross + (1 - part.cos())[..., None, None] * (cross @ cross)) @ start


@exactly
def _turn(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Axis (..., 3), as long as the sine of the angle, and angle (...) of the turn T with T @ start = end."""
    turn = end @ start.mT
    skew = (turn - turn.mT) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    cosine = ((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    return axis, torch.atan2(axis.norm(dim=-1), cosine)


def degrees_from_bins(logits: Tensor) -> Tensor:
    """Expected angle under the softmax of the bins: (..., num_bins) -> (...). Computed in float32."""
    probability = logits.float().softmax(-1)
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=torch.float32)
    return ANGLE_STEP_DEGREES * (probability * bins).sum(-1) - ANGLE_OFFSET_DEGREES

"""Causal smoothing that lets go: small changes are averaged over a time constant, big ones pass at once.

One step per frame, all state in the last smoothed value. The share of a change that is taken over is
1 - exp(-dt / tau (1 + (d / step)^2)): d the distance between the new value and the smoothed one, `step` the distance
that is taken for noise. Moving steadily, d is speed times lag, so this adapts to speed as the one-euro filter does
(Casiez et al., CHI 2012), without a noisy derivative. Legend: T frames (1 in a stream).
"""

from __future__ import annotations

import torch
from torch import Tensor


def share(distance: Tensor, step: float, ratio: float) -> Tensor:
    """How much of a change of size `distance` to take over; ratio: seconds per frame over the time constant."""
    return 1 - torch.exp(-ratio * (1 + (distance / step) ** 2))


def follow(smoothed: Tensor, new: Tensor, step: float, ratio: float) -> Tensor:
    """Vectors (..., N), each by its own distance."""
    change = new - smoothed
    return smoothed + share(change.norm(dim=-1, keepdim=True), step, ratio) * change


def follow_rotation(smoothed: Tensor, new: Tensor, step: float, ratio: float) -> Tensor:
    """Rotations (T, 3, 3), along the shortest turn between them; `step` in radians."""
    turn = new @ smoothed.mT
    skew = (turn - turn.mT) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], -1)
    cosine = ((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    angle = torch.atan2(axis.norm(dim=-1), cosine)
    part = angle * share(angle, step, ratio)
    # Half turns have no defined axis here; a head does not turn by them within a frame, and then it may jump.
    unit = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    zero = torch.zeros_like(angle)
    x, y, z = unit.unbind(-1)
    cross = torch.stack(
        [torch.stack([zero, -z, y], -1), torch.stack([z, zero, -x], -1), torch.stack([-y, x, zero], -1)], -2
    )
    identity = torch.eye(3, dtype=new.dtype, device=new.device)
    sine = part.sin()[..., None, None]
    return (identity + sine * cross + (1 - part.cos())[..., None, None] * (cross @ cross)) @ smoothed

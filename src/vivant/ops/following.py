"""Causal smoothing that lets go: small changes are averaged over a time constant, big ones pass at once.

One step per frame, all state in the last smoothed value. The share of a change that is taken over is
1 - exp(-dt / tau (1 + (d / step)^2)): d the distance between the new value and the smoothed one, `step` the distance
that is taken for noise. Moving steadily, d is speed times lag, so this adapts to speed as the one-euro filter does
(Casiez et al., CHI 2012), without a noisy derivative. Legend: T frames (1 in a stream).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vivant.ops.rotation import rotation_between, turn_angle


def share(distance: Tensor, step: float, ratio: float) -> Tensor:
    """How much of a change of size `distance` to take over; ratio: seconds per frame over the time constant."""
    return 1 - torch.exp(-ratio * (1 + (distance / step) ** 2))


def follow(smoothed: Tensor, new: Tensor, step: float, ratio: float) -> Tensor:
    """Vectors (..., N), each by its own distance."""
    change = new - smoothed
    return smoothed + share(change.norm(dim=-1, keepdim=True), step, ratio) * change


def follow_rotation(smoothed: Tensor, new: Tensor, step: float, ratio: float) -> Tensor:
    """Rotations (T, 3, 3), along the shortest turn between them; `step` in radians."""
    return rotation_between(smoothed, new, share(turn_angle(smoothed, new), step, ratio))

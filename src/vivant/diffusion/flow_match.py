"""Rectified flow: a straight line from data (time 0) to noise (time 1), walked backwards in Euler steps.

Lipman et al., arXiv 2210.02747; the shifted grid is that of Esser et al., arXiv 2403.03206. torch and nothing of ours.
"""

from __future__ import annotations

import torch
from torch import Tensor


def shifted_times(num_steps: int, shift: float) -> Tensor:
    """Times (num_steps + 1,) float64 from 1 down to 0: shift u / (1 + (shift - 1) u) on an even grid of u.

    shift above 1 spends more steps near the noise. Raises ValueError.
    """
    if num_steps < 1 or shift <= 0:
        raise ValueError(f"num_steps is 1 or more and shift positive, got {num_steps} and {shift}")
    even = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64)
    return shift * even / (1 + (shift - 1) * even)


def noised(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """The point of the line at time (B,): time * noise + (1 - time) * data, for data (B, ...)."""
    time = time.view(-1, *[1] * (data.dim() - 1)).to(data.dtype)
    return time * noise + (1 - time) * data


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """What a network learns to say anywhere on the line: noise - data."""
    return noise - data


def euler_step(x: Tensor, velocity: Tensor, time: float, next_time: float) -> Tensor:
    """From `time` to `next_time` along a velocity."""
    return x + (next_time - time) * velocity


def logit_normal_times(count: int, generator: torch.Generator | None = None, mean: float = 0.0) -> Tensor:
    """Training times (count,) in (0, 1): the sigmoid of a normal of spread 1; a mean above 0 means more noise."""
    device = generator.device if generator is not None else None
    return torch.sigmoid(mean + torch.randn(count, generator=generator, device=device))

"""DDIM with epsilon prediction on Stable Diffusion's schedule, for windows whose frames have different noise levels.

Song et al., arXiv 2010.02502, eta = 0. Noise levels are steps 0 (nearly clean) to 999. torch and nothing of ours.
Compute in float32: near step 999 the clean picture is divided by 0.015. Legend: B batch, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """How much of the data is left at each step."""

    alphas_cumprod: Tensor
    """(steps,) float32: alpha bar, from nearly 1 down to nearly 0."""

    def at(self, steps: Tensor, like: Tensor) -> Tensor:
        """alpha bar of steps (F,), shaped to multiply `like` (B, F, ...); step -1 is the data itself, 1."""
        table = self.alphas_cumprod.to(like.device)
        known = table[steps.to(like.device).clamp(min=0)]
        alpha = torch.where(steps.to(like.device) >= 0, known, torch.ones_like(known))
        return alpha.view(1, -1, *[1] * (like.dim() - 2))


def scaled_linear(first: float, last: float, num_steps: int) -> Schedule:
    """Betas whose square roots are evenly spaced between those of `first` and `last`."""
    betas = torch.linspace(first**0.5, last**0.5, num_steps) ** 2
    return Schedule(torch.cumprod(1 - betas, 0))


def noised(schedule: Schedule, data: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
    """sqrt(a) data + sqrt(1 - a) noise, for data (B, F, ...) at steps (F,)."""
    alpha = schedule.at(steps, data)
    return alpha.sqrt() * data + (1 - alpha).sqrt() * noise


def clean(schedule: Schedule, sample: Tensor, epsilon: Tensor, steps: Tensor) -> Tensor:
    """The data that sample (B, F, ...) at steps (F,) is made of, if epsilon is its noise."""
    alpha = schedule.at(steps, sample)
    return (sample - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()


def noise(schedule: Schedule, sample: Tensor, data: Tensor, steps: Tensor) -> Tensor:
    """The noise in a sample (B, F, ...) at steps (F,), if these are its data."""
    alpha = schedule.at(steps, sample)
    return (sample - alpha.sqrt() * data) / (1 - alpha).sqrt()

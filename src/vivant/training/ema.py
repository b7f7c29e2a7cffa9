"""Exponential moving average of weights: what is evaluated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vivant.training.distributed import full_tensor


class Average:
    """A copy of a network that follows it: average = decay * average + (1 - decay) * network.

    Early on the effective decay is (1 + step) / (10 + step), so that the average forgets the random start.
    Buffers (batch-norm statistics) are copied.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = zip(self.network.parameters(), network.parameters(), strict=True)
        moving: list[tuple[Tensor, Tensor]] = [
            (p, full_tensor(q.detach())) for p, q in pairs if q.requires_grad
        ]
        if moving:
            torch._foreach_lerp_([p for p, _ in moving], [q for _, q in moving], 1 - decay)
        for a, b in zip(self.network.buffers(), network.buffers(), strict=True):
            a.copy_(b)

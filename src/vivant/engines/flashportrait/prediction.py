"""Adaptive Latent Prediction: most steps are extrapolated from a few computed ones (arXiv 2512.16900, section 3.3).

No code for it was ever released; the formulas are the paper's, with our reading where it is silent (README). f is a
feature, a the last computed step (anchor), K the distance of anchors, u = (steps since a) / K, D^i backward
differences of the anchors:

    taylor     f(a) + sum_i D^i u^i / i!                          TaylorSeer (arXiv 2503.06923), the baseline
    adaptive   f(a) + sum_i D^i u^i / (i! w_i s)                  the paper's
    newton     f(a) + sum_i D^i u (u + 1) ... (u + i - 1) / i!    the polynomial through the anchors
    lagrange   the same for anchors at any distance, in time instead of steps; used by `controlled`, ours

w balances layers by the size of their differences, s damps where change is fast. Every tensor has one row per guidance
branch and rows never meet: norms and means are per row. Knows no networks. Letters: B branches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

SPEED_EXPONENT = 1.5
"""alpha of s(t) = (rate of change / its mean so far) ^ alpha."""

Layers = list[Tensor]
"""Features of one step, (B, ...) each."""


@dataclass(kw_only=True)
class Anchors:
    """The last computed steps of one window, oldest first."""

    steps: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    features: list[list[Tensor]] = field(default_factory=list)
    rates: list[Tensor] = field(default_factory=list)
    """Per anchor since the first: mean size (B,) of the first difference over all layers."""

    def __len__(self) -> int:
        return len(self.steps)

    def record(self, step: int, time: float, features: Sequence[Tensor], order: int) -> None:
        """Add a computed step, forget those that an extrapolation of this order does not use."""
        if self.features:
            self.rates.append(
                _mean_size([new - old for new, old in zip(features, self.features[-1], strict=True)])
            )
        self.steps, self.times = [*self.steps, step][-order - 1 :], [*self.times, time][-order - 1 :]
        self.features = [*self.features, list(features)][-order - 1 :]

    def num_bytes(self) -> int:
        """Memory of the features that are kept."""
        return sum(x.numel() * x.element_size() for layers in self.features for x in layers)


def differences(anchors: Anchors, order: int) -> list[Layers]:
    """D^0 to D^order of every layer, as far as there are anchors."""
    rows = [list(layers) for layers in reversed(anchors.features)][: order + 1]
    out = [rows[0]]
    while len(rows) > 1:
        rows = [
            [new - old for new, old in zip(later, earlier, strict=True)] for later, earlier in pairwise(rows)
        ]
        out.append(rows[0])
    return out


def extrapolated(anchors: Anchors, method: str, u: float, order: int) -> Layers:
    """Features u anchor distances after the last anchor, by `taylor`, `adaptive` or `newton`."""
    found = differences(anchors, order)
    speed = speed_factor(anchors) if method == "adaptive" else None
    out = list(found[0])
    for i, layers in enumerate(found[1:], start=1):
        if method == "newton":
            weight = math.prod(u + j for j in range(i)) / math.factorial(i)
        else:
            weight = u**i / math.factorial(i)
        gains = [None] * len(layers) if speed is None else [1 / (w * speed) for w in layer_factors(layers)]
        for index, (difference, gain) in enumerate(zip(layers, gains, strict=True)):
            step = difference * weight if gain is None else difference * _rows(weight * gain, difference)
            out[index] = out[index] + step
    return out


def speed_factor(anchors: Anchors) -> Tensor:
    """s (B,): the rate of change at the last anchor over its mean so far, to the power alpha; 1 at the start."""
    if not anchors.rates:
        return anchors.features[-1][0].new_ones(len(anchors.features[-1][0]))
    rates = torch.stack(anchors.rates)
    mean = rates.mean(0)
    return torch.where(mean > 0, rates[-1] / mean, torch.ones_like(mean)) ** SPEED_EXPONENT


def layer_factors(layers: Sequence[Tensor]) -> list[Tensor]:
    """w (B,) of every layer: one over the root of its difference's norm relative to the layers' mean."""
    norms = torch.stack([x.flatten(1).norm(dim=1) for x in layers])
    ratio = norms / norms.mean(0)
    return list(torch.where(ratio > 0, ratio, torch.ones_like(ratio)).rsqrt())


def lagrange(anchors: Anchors, time: float, order: int) -> list[float]:
    """Weights of the last order + 1 anchors' features, oldest first, for a time that need not be on any grid."""
    times = anchors.times[-order - 1 :]
    return [
        math.prod((time - other) / (own - other) for j, other in enumerate(times) if j != i)
        for i, own in enumerate(times)
    ]


def mixed(rows: Sequence[Layers], weights: Sequence[float]) -> Layers:
    """The weighted sum of features, layer by layer."""
    rows = list(rows)[-len(weights) :]
    return [
        sum((x * w for x, w in zip(layer, weights, strict=True)), torch.zeros_like(layer[0]))
        for layer in zip(*rows, strict=True)
    ]


def relative_error(ours: Tensor, truth: Tensor) -> float:
    """The worst branch's difference over its truth, as root sums of squares."""
    difference, size = ((x.float().flatten(1)).norm(dim=1) for x in (ours - truth, truth))
    return float((difference / size.clamp(min=1e-12)).max())


def _mean_size(layers: Sequence[Tensor]) -> Tensor:
    """Mean absolute value (B,) over all layers and elements."""
    total = sum((x.float().abs().flatten(1).sum(1) for x in layers), torch.zeros(()).to(layers[0].device))
    assert isinstance(total, Tensor)
    return total / sum(x[0].numel() for x in layers)


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.dim() - 1))

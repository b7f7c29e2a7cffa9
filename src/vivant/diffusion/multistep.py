"""Solvers of second order for rectified flow: DPM-Solver++ (2M) and UniPC, which remember a step or two.

Lu et al., arXiv 2211.01095; Zhao et al., arXiv 2302.04867 (B2, data prediction). Everything is in
lambda = log((1 - t) / t) of the time t on the line from data to noise. A history belongs to one stream of steps. torch
and nothing of ours.
Letters: m what the data look like from a step, h a step in lambda.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class History:
    """What a solver remembers between two steps."""

    times: list[float] = field(default_factory=list)
    """Of the last two steps, oldest first."""
    clean: list[Tensor] = field(default_factory=list)
    """m at these."""
    before: Tensor | None = None
    """Where the last step began (UniPC)."""
    order: int = 0
    """Of the last step (UniPC)."""


def solver_times(num_steps: int, shift: float) -> list[float]:
    """Times (num_steps + 1,) from just below 1, where lambda is finite, to 0: diffusers' flow grid for them."""
    even = torch.linspace(0, 1 - 1 / 1000, num_steps + 1, dtype=torch.float64).flip(0)[:-1]
    return [*(float(t) for t in shift * even / (1 + (shift - 1) * even)), 0.0]


def dpm_step(x: Tensor, velocity: Tensor, time: float, next_time: float, history: History) -> Tensor:
    """One step of DPM-Solver++ (2M); of first order at the beginning, and to time 0."""
    _remember(history, x - time * velocity, time)
    h = _lambda(next_time) - _lambda(time)
    m = history.clean[-1]
    change = math.expm1(-h)
    out = (next_time / time) * x - (1 - next_time) * change * m
    if len(history.clean) == 1 or next_time == 0:
        return out
    ratio = (_lambda(time) - _lambda(history.times[-2])) / h
    return out - 0.5 * (1 - next_time) * change * (m - history.clean[-2]) / ratio


def unipc_step(x: Tensor, velocity: Tensor, time: float, next_time: float, history: History) -> Tensor:
    """One step of UniPC-2: what was said at x corrects the last step, then the next is taken."""
    clean = x - time * velocity
    if history.before is not None:
        x = _corrected(clean, time, history)
    history.before = x
    _remember(history, clean, time)
    history.order = 1 if len(history.clean) == 1 or next_time == 0 else 2
    h = _lambda(next_time) - _lambda(time)
    change = math.expm1(-h)
    out = (next_time / time) * x - (1 - next_time) * change * clean
    if history.order == 1:
        return out
    ratio = (_lambda(history.times[-2]) - _lambda(time)) / h
    return out - (1 - next_time) * change * 0.5 * (history.clean[-2] - clean) / ratio


def _corrected(clean: Tensor, time: float, history: History) -> Tensor:
    """The last step once more, knowing m at its end."""
    assert history.before is not None
    began, m = history.times[-1], history.clean[-1]
    h = _lambda(time) - _lambda(began)
    change = math.expm1(-h)
    out = (time / began) * history.before - (1 - time) * change * m
    if history.order == 1:
        return out - (1 - time) * change * 0.5 * (clean - m)
    # Weights of both differences: two equations, so that the step is exact for polynomials (Eq. 12 of the paper).
    ratio = (_lambda(history.times[-2]) - _lambda(began)) / h
    first = (change / -h - 1) / change
    second = ((change / -h - 1) / -h - 0.5) * 2 / change
    older = (second - first) / (ratio - 1)
    newer = first - older
    rest = older * (history.clean[-2] - m) / ratio + newer * (clean - m)
    return out - (1 - time) * change * rest


def _lambda(time: float) -> float:
    return math.inf if time == 0 else math.log((1 - time) / time)


def _remember(history: History, clean: Tensor, time: float) -> None:
    history.clean, history.times = [*history.clean, clean][-2:], [*history.times, time][-2:]

"""Times of the steps from noise to picture, and guidance by difference.

The grid is that of diffusers' flow-match Euler scheduler, which shifts twice: first the table of 1000 training times,
then the even grid between its ends. Distilled weights use the plain grid. Letters: B branches, S steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step, shifted_times
from vivant.diffusion.multistep import History, dpm_step, solver_times, unipc_step
from vivant.engines.flashportrait.config import Config, Options, Sampler

NUM_TRAINING_TIMES = 1000


def step_times(num_steps: int, shift: float, *, distilled: bool = False) -> list[float]:
    """Times (S + 1,) from 1 down to 0."""
    if distilled:
        return [float(time) for time in shifted_times(num_steps, shift)]
    smallest = _shifted(torch.tensor(1 / NUM_TRAINING_TIMES, dtype=torch.float64), shift)
    even = torch.linspace(1, float(smallest), num_steps, dtype=torch.float64)
    return [*(float(time) for time in _shifted(even, shift)), 0.0]


def _shifted(time: Tensor, shift: float) -> Tensor:
    return shift * time / (1 + (shift - 1) * time)


def sampler_times(sampler: Sampler, num_steps: int, shift: float, *, distilled: bool) -> list[float]:
    """The times (S + 1,) that a sampler steps on."""
    if sampler == "euler":
        return step_times(num_steps, shift, distilled=distilled)
    return solver_times(num_steps, shift)


def stepped(
    sampler: Sampler, x: Tensor, velocity: Tensor, span: tuple[float, float], history: History
) -> Tensor:
    """One step of a window over a span of time."""
    if sampler == "euler":
        return euler_step(x, velocity, *span)
    return (dpm_step if sampler == "dpm" else unipc_step)(x, velocity, *span, history)


@dataclass(frozen=True)
class Branch:
    """One question to the transformer."""

    expression: float
    """Weight of the expression branch: 1 or 0."""
    negative: bool
    """Whether it is told the negative prompt."""


WITH_ALL, WITHOUT_DRIVER = Branch(1, False), Branch(0, False)
NEGATIVE_WITH_DRIVER, NEGATIVE = Branch(1, True), Branch(0, True)


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How strongly driver and words are followed; 1 is as trained, and asks fewer questions."""

    expression: float
    text: float

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The questions, in the order of `combined`."""
        if self.expression != 1 and self.text != 1:
            return WITH_ALL, WITHOUT_DRIVER, NEGATIVE
        if self.expression != 1:
            return WITH_ALL, WITHOUT_DRIVER
        return (WITH_ALL, NEGATIVE_WITH_DRIVER) if self.text != 1 else (WITH_ALL,)

    def combined(self, velocities: Tensor) -> Tensor:
        """(B, ...) -> (1, ...): negative + text (plain - negative) + expression (driven - plain)."""
        driven, *others = velocities.split(1)
        if len(others) == 2:
            plain, negative = others
            return negative + self.text * (plain - negative) + self.expression * (driven - plain)
        if not others:
            return driven
        strength = self.expression if self.expression != 1 else self.text
        return others[0] + strength * (driven - others[0])


def guidance_of(config: Config, options: Options) -> Guidance:
    """What a user asked for, and the preset's where he did not."""
    expression = options.expression_guidance
    return Guidance(
        expression=config.expression_guidance if expression is None else expression,
        text=options.text_guidance,
    )

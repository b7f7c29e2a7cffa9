"""Solvers of second order: step by step those of diffusers, and better than Euler where the flow bends."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from vivant.diffusion.flow_match import euler_step, shifted_times
from vivant.diffusion.multistep import History, dpm_step, solver_times, unipc_step

diffusers = pytest.importorskip("diffusers")
SHIFT = 5.0
STEPS = {"dpm": dpm_step, "unipc": unipc_step}


def said(x: Tensor, time: float) -> Tensor:
    """A velocity that depends on place and time, as a network's."""
    return torch.sin(x * 1.3 + 2 * time) + 0.3 * x * time


def scheduler(name: str, num_steps: int) -> Any:
    common = {
        "use_flow_sigmas": True,
        "flow_shift": SHIFT,
        "prediction_type": "flow_prediction",
        "solver_order": 2,
    }
    if name == "dpm":
        made = diffusers.DPMSolverMultistepScheduler(
            **common, algorithm_type="dpmsolver++", final_sigmas_type="zero"
        )
    else:
        made = diffusers.UniPCMultistepScheduler(**common, solver_type="bh2", final_sigmas_type="zero")
    made.set_timesteps(num_steps)
    return made


def walked(step: Callable[..., Tensor], x: Tensor, times: list[float]) -> list[Tensor]:
    history, out = History(), []
    for time, following in pairwise(times):
        x = step(x, said(x, time), time, following, history)
        out.append(x)
    return out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers
@pytest.mark.parametrize("name", sorted(STEPS))
@pytest.mark.parametrize("num_steps", [4, 12])
def test_step_by_step_as_diffusers(name: str, num_steps: int) -> None:
    theirs = scheduler(name, num_steps)
    times = theirs.sigmas.tolist()
    if name == "dpm":  # UniPC's own grid is a little later
        assert times == pytest.approx(solver_times(num_steps, SHIFT), abs=1e-6)
    x = torch.randn(1, 4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    ours = walked(STEPS[name], x, times)
    for index, timestep in enumerate(theirs.timesteps):
        x = theirs.step(said(x, times[index]), timestep, x).prev_sample
        torch.testing.assert_close(
            ours[index], x, atol=2e-5, rtol=1e-5, msg=lambda text, at=index: f"{at}: {text}"
        )


@pytest.mark.parametrize("name", sorted(STEPS))
def test_closer_to_many_small_steps_than_euler(name: str) -> None:
    x = torch.randn(1, 4, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    truth = x
    for time, following in pairwise(torch.linspace(solver_times(16, SHIFT)[0], 0, 4001).tolist()):
        truth = euler_step(truth, said(truth, time), time, following)
    euler = x
    for time, following in pairwise(shifted_times(16, SHIFT).tolist()):
        euler = euler_step(euler, said(euler, time), time, following)
    ours = walked(STEPS[name], x, solver_times(16, SHIFT))[-1]
    assert (ours - truth).square().mean() < 0.6 * (euler - truth).square().mean()
    assert math.isfinite(float(ours.sum()))

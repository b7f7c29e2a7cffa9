"""The straight line from data to noise, and the grid on which it is walked."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from vivant.diffusion.flow_match import euler_step, logit_normal_times, noised, shifted_times, velocity


def test_grid_of_twelve_steps_and_shift_five() -> None:
    expected = [1, 0.9821, 0.9615, 0.9375, 0.9091, 0.875, 0.8333, 0.7813, 0.7143, 0.625, 0.5, 0.3125, 0]
    assert shifted_times(12, 5.0).tolist() == pytest.approx(expected, abs=6e-5)
    assert shifted_times(4, 1.0).tolist() == [1, 0.75, 0.5, 0.25, 0]
    with pytest.raises(ValueError, match="num_steps is 1 or more"):
        shifted_times(0, 5.0)


def test_the_true_velocity_leads_back_to_the_data() -> None:
    data, noise = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    x = noised(data, noise, torch.ones(2))
    assert torch.equal(x, noise)
    grid = shifted_times(5, 3.0).tolist()
    for time, next_time in pairwise(grid):
        x = euler_step(x, velocity(data, noise), time, next_time)
    torch.testing.assert_close(x, data, atol=1e-12, rtol=0)


def test_training_times_are_seeded_and_inside() -> None:
    times = logit_normal_times(1000, torch.Generator().manual_seed(0))
    assert torch.equal(times, logit_normal_times(1000, torch.Generator().manual_seed(0)))
    assert 0 < times.min() < 0.1 < 0.9 < times.max() < 1
    assert abs(times.mean().item() - 0.5) < 0.03

"""Sampling against torch's own grid_sample."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vivant.ops.warp import identity_grid, sample_volume, shifted_volumes


def test_identity_grid_ends_on_the_border() -> None:
    grid = identity_grid((2, 3, 5), torch.device("cpu"))
    assert grid.shape == (2, 3, 5, 3)
    assert grid[0, 0, 0].tolist() == [-1, -1, -1]
    assert grid[-1, -1, -1].tolist() == [1, 1, 1]
    assert grid[0, 0, 1].tolist() == [-0.5, -1, -1]


@pytest.mark.parametrize("reach", [0.1, 3.0])
def test_shifted_volumes(reach: float) -> None:
    """Also where everything is shifted out of the volume."""
    torch.manual_seed(0)
    volume, shifts = torch.randn(2, 3, 4, 6, 5), torch.randn(2, 7, 3) * reach
    grids = identity_grid(volume.shape[2:], volume.device) + shifts[:, :, None, None, None]
    repeated = volume[:, None].expand(-1, 7, -1, -1, -1, -1).flatten(0, 1)
    expected = F.grid_sample(repeated, grids.flatten(0, 1), align_corners=False).unflatten(0, (2, 7))
    ours = shifted_volumes(volume, shifts)
    torch.testing.assert_close(ours.permute(0, 4, 5, 1, 2, 3), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("reach", [0.9, 1.5, 1e6])
def test_sample_volume(reach: float) -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 3, 4, 6, 5)
    grid = (torch.rand(2, 4, 3, 5, 3) * 2 - 1) * reach
    expected = F.grid_sample(volume, grid, align_corners=False)
    torch.testing.assert_close(sample_volume(volume, grid), expected, atol=1e-5, rtol=0)


def test_sample_volume_at_nowhere() -> None:
    """Infinite coordinates give zeros, as outside."""
    grid = torch.full((1, 1, 1, 2, 3), torch.inf)
    assert sample_volume(torch.ones(1, 2, 2, 2, 2), grid).abs().max() == 0

"""Layers of the compact networks that are written for speed say what the plain form of torch says, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vivant.engines.liveportrait.layers_compact import (
    _bells,
    halved,
    keypoint_flows,
    laid_out,
    pixel_grid,
    resize_flow,
    warp,
)


def _pictures(count: int, channels: int, side: int) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(channels)) - 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "channels"), [(1, 7), (1, 43), (2, 43)])
def test_pictures_laid_out_for_convolutions_are_the_same_numbers_in_the_same_places(
    dtype: torch.dtype, count: int, channels: int
) -> None:
    pictures = _pictures(count, channels, 64)
    made = laid_out(pictures, dtype)
    plain = pictures.to(dtype, memory_format=torch.channels_last)
    assert torch.equal(made, plain)
    assert made.stride() == plain.stride()
    assert made.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_halving_is_average_pooling(dtype: torch.dtype) -> None:
    pictures = _pictures(2, 22, 32).to(dtype)
    assert torch.equal(halved(pictures).to(dtype), F.avg_pool2d(pictures, 2))


def test_a_flow_that_comes_as_rows_of_pairs_is_enlarged_as_planes_are() -> None:
    planes = _pictures(1, 2, 16)
    pairs = planes.permute(0, 2, 3, 1).contiguous()
    plain = F.interpolate(planes, size=(64, 64), mode="bilinear", align_corners=False)
    assert torch.equal(resize_flow(pairs, 64), plain.permute(0, 2, 3, 1))


@pytest.mark.parametrize("flow_side", [16, 32, 64])
def test_a_warp_by_looking_up_rows_is_what_grid_sample_gives(flow_side: int) -> None:
    picture = _pictures(1, 40, 32).contiguous(memory_format=torch.channels_last)
    flow = _pictures(1, 2, flow_side).permute(0, 2, 3, 1) * 3  # also far beyond the edges
    flow[:, :4] = 0
    with torch.no_grad():
        looked_up = warp(picture, flow)
    grid = pixel_grid(32, flow.device) + resize_flow(flow, 32)
    plain = F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(looked_up, plain, rtol=0, atol=1e-6)
    assert looked_up.is_contiguous(memory_format=torch.channels_last)


def test_flows_of_several_radii_are_what_each_radius_gives() -> None:
    points = _pictures(2, 81, 2).flatten(2)[..., :2] * 2
    shift = _pictures(2, 81, 3).flatten(2)[..., :2] * 0.2
    together = keypoint_flows(points, shift, 32, [0.05, 0.35])
    alone = [keypoint_flows(points, shift, 32, [sigma])[0] for sigma in (0.05, 0.35)]
    assert torch.equal(together, torch.stack(alone))


def test_bells_end_where_they_are_as_good_as_zero() -> None:
    points = _pictures(1, 40, 2).flatten(2)[..., :2] * 3
    columns, _ = _bells(points, 128, [0.014])
    centres = (torch.arange(128, dtype=torch.float32) + 0.5) / 64 - 1
    plain = torch.exp(-0.5 / 0.014**2 * (centres - points[..., :1]) ** 2)
    assert torch.equal(columns[0], torch.where(plain > 1e-13, plain, 0))
    assert (columns == 0).any()
    assert (columns > 0.5).any()

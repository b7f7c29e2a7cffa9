"""Merged layers against the layers they replace."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vivant.engines.liveportrait.networks.depth_fourier import DepthFourierConv
from vivant.ops.folding import (
    batch_norm_affine,
    bias_of,
    four_times_row_taps,
    merged_conv,
    upsampled_weight,
)


@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm(bias: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv3d(3, 4, 3, bias=bias), nn.BatchNorm3d(4)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        assert tensor is not None
        tensor.uniform_(0.5, 1.5)
    norm.eval()
    x = torch.randn(2, 3, 5, 5, 5)
    expected = norm(conv(x))
    gain, shift = batch_norm_affine(norm)
    torch.testing.assert_close(
        norm(x[:, :1].expand(-1, 4, -1, -1, -1))[0, :, 0, 0, 0], x[0, 0, 0, 0, 0] * gain + shift
    )
    torch.testing.assert_close(merged_conv(conv, norm)(x), expected, atol=1e-5, rtol=0)


def test_twice_the_size() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 5, 6)
    ours = F.conv_transpose2d(x, upsampled_weight(conv.weight, 2), conv.bias, stride=2, padding=1)
    torch.testing.assert_close(ours, conv(F.interpolate(x, scale_factor=2)), atol=1e-5, rtol=0)


def test_twice_the_size_of_a_volume() -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 4, 5, 6)
    weight = upsampled_weight(conv.weight, 2).flip(2)
    ours = F.conv_transpose3d(x, weight, conv.bias, stride=(1, 2, 2), padding=1)
    torch.testing.assert_close(ours, conv(F.interpolate(x, scale_factor=(1, 2, 2))), atol=1e-5, rtol=0)


def test_four_times_the_size() -> None:
    """Three stored rows and columns per cell stand for four, the middle one twice."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 5, 6)
    stored = F.conv_transpose2d(x, upsampled_weight(conv.weight, 4), conv.bias, stride=3, padding=1)
    rows, columns = (
        torch.arange(4 * size) // 4 * 3 + torch.tensor([0, 1, 1, 2]).repeat(size) for size in (5, 6)
    )
    expected = conv(F.interpolate(x, scale_factor=4))
    torch.testing.assert_close(stored[:, :, rows][..., columns], expected, atol=1e-5, rtol=0)


def test_taps_over_stored_rows() -> None:
    weight = torch.tensor([1.0, 10.0, 100.0])
    taps = [four_times_row_taps(weight, phase, 0).tolist() for phase in range(4)]
    assert taps == [[1, 10, 100], [1, 110], [11, 100], [1, 10, 100]]


def test_only_two_and_four() -> None:
    with pytest.raises(ValueError, match="2 or 4 can be merged, got 3"):
        upsampled_weight(torch.zeros(1, 1, 3, 3), 3)


@pytest.mark.parametrize(("depth", "kernel"), [(16, 7), (4, 7), (5, 3)])
def test_convolution_in_the_fourier_domain(depth: int, kernel: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 2, kernel, padding=kernel // 2).requires_grad_(False)
    x = torch.randn(2, 3, depth, 6, 5)
    ours = DepthFourierConv(conv, depth)(x).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(ours, conv(x), atol=1e-5, rtol=0)


def test_bias_of() -> None:
    assert bias_of(nn.Conv2d(2, 3, 1, bias=False)).tolist() == [0, 0, 0]

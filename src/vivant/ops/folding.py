"""Merging of layers that are constant at inference. Each function gives the same numbers up to rounding.

Legend: O output channels, I input channels, k kernel cells.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Conv = TypeVar("Conv", bound=nn.modules.conv._ConvNd)

# A 3-tap convolution (w0, w1, w2) after nearest upsampling is a transposed convolution of the small input: tap by
# tap, which of w0, w1, w2 reach the output cells around a small cell. Twice the size: two distinct output rows per
# cell. Four times: the two middle rows are equal, so three distinct rows hold everything.
_TWICE = ((0, 0, 1), (0, 1, 1), (1, 1, 0), (1, 0, 0))
_FOUR_TIMES = ((0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0))


def merge_batch_norm(
    conv: nn.modules.conv._ConvNd, norm: nn.modules.batchnorm._BatchNorm
) -> tuple[Tensor, Tensor]:
    """Weight and bias of conv followed by norm in evaluation mode."""
    gain, shift = batch_norm_affine(norm)
    return conv.weight * gain.view(-1, *[1] * (conv.weight.dim() - 1)), bias_of(conv) * gain + shift


def batch_norm_affine(norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Gain and shift (C,) of a batch norm in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return gain, norm.bias - norm.running_mean * gain


def merged_conv(conv: Conv, norm: nn.modules.batchnorm._BatchNorm) -> Conv:
    """conv with norm merged into it, in place."""
    return with_weights(conv, *merge_batch_norm(conv, norm))


def upsampled_weight(weight: Tensor, times: int) -> Tensor:
    """A 3-tap kernel (O, I, ..., 3, 3) after nearest upsampling of the last two dimensions, as a transposed kernel.

    times 2: (I, O, ..., 4, 4) for stride 2, padding 1, all cells of the output.
    times 4: (I, O, ..., 5, 5) for stride 3, padding 1, the three distinct rows and columns per small cell.
    """
    if times not in (2, 4):
        raise ValueError(f"nearest upsampling by 2 or 4 can be merged, got {times}")
    taps = torch.tensor(_TWICE if times == 2 else _FOUR_TIMES, dtype=weight.dtype, device=weight.device)
    return torch.einsum("oi...yx,uy,vx->io...uv", weight, taps, taps).contiguous()


def four_times_row_taps(weight: Tensor, phase: int, dim: int) -> Tensor:
    """The taps of row `phase` (0..3) of a 3-tap kernel over a four-times map that is stored as three rows per cell.

    Rows 1 and 2 of the full map are the same stored row, so where a kernel meets both, their taps add up.
    """
    first, middle, last = weight.unbind(dim)
    rows = {
        0: (first, middle, last),
        1: (first, middle + last),
        2: (first + middle, last),
        3: (first, middle, last),
    }
    return torch.stack(rows[phase], dim)


def bias_of(conv: nn.modules.conv._ConvNd) -> Tensor:
    """The bias (O,), zeros where there is none."""
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def with_weights(conv: Conv, weight: Tensor, bias: Tensor | None) -> Conv:
    """conv with these weights. Made on the meta device, it costs no random initialisation."""
    conv.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    conv.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    return conv

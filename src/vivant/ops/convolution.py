"""Convolution over time and space that a CPU does fast for one clip too, and a GPU for few channels.

For float32 torch takes oneDNN's kernel where there are two samples or more, or where samples x channels x frames x rows
are above 20480; else one of its own, which is five to seven times slower at 128 px (`use_mkldnn` in ATen's
Convolution.cpp, which overlooks that there is a fifth dimension). A stream decodes one clip, a few frames at a time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ONEDNN_VALUES = 20480


FEW_CHANNELS = 64
"""GPUs have fast kernels for convolutions over space in 16 bits; those over time too are slow for few channels, and the
time axis costs little memory there as further channels."""


def conv3d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.conv3d` without padding or stride, x (B, C, T, H, W): equal to it up to rounding.

    Where torch would take its slow kernel, the upper and the lower half of the picture go in as two samples.
    """
    if x.device.type == "cuda" and weight.shape[1] <= FEW_CHANNELS and weight[0, 0].numel() > 1:
        return conv3d_by_pictures(x, weight, bias)
    margin = weight.shape[3] - 1
    rows = x.shape[3] - margin
    is_slow = (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and len(x) == 1
        and x[0, :, :, :, 0].numel() <= ONEDNN_VALUES
        and weight[0, 0].numel() > 1
    )
    if not is_slow or rows < 2 or rows % 2:
        return F.conv3d(x, weight, bias)
    half = rows // 2
    halves = torch.cat([x[:, :, :, : half + margin], x[:, :, :, half:]])
    return torch.cat(F.conv3d(halves, weight, bias).split(1), 3)


def conv3d_by_pictures(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The same as a convolution over space alone: what it sees of the past stands in further channels."""
    seen = x.unfold(2, weight.shape[2], 1)
    batch, channels, frames, height, width, times = seen.shape
    # Channels last in memory, which is what the kernels want.
    pictures = seen.permute(0, 2, 3, 4, 5, 1).reshape(batch * frames, height, width, times * channels)
    kernel = weight.permute(0, 2, 1, 3, 4).flatten(1, 2)
    out = F.conv2d(pictures.permute(0, 3, 1, 2), kernel, bias)
    return out.unflatten(0, (batch, frames)).transpose(1, 2)

"""F for inference: the same function as `appearance`, batch norms merged into their neighbours.

Legend: B batch, C channels, D depth cells, h w cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.networks.appearance import AppearanceExtractor
from vivant.engines.liveportrait.networks.layers import ResBlock3d
from vivant.ops.folding import batch_norm_affine, merged_conv


class FoldedResBlock3d(nn.Module):
    """The second norm goes into the first convolution; the first norm stays, before its ReLU."""

    gain: Tensor
    shift: Tensor

    def __init__(self, plain: ResBlock3d):
        super().__init__()
        gain, shift = (values.view(1, -1, 1, 1, 1) for values in batch_norm_affine(plain.norm1))
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.conv1 = merged_conv(plain.conv1, plain.norm2)
        self.conv2 = plain.conv2

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addcmul(self.shift.to(x.dtype), x, self.gain.to(x.dtype)).relu_()
        return self.conv2(self.conv1(y).relu_()).add_(x)


class FoldedAppearance(nn.Module):
    """The folded form of an AppearanceExtractor."""

    def __init__(self, plain: AppearanceExtractor):
        super().__init__()
        self.depth = plain.depth
        self.first = merged_conv(plain.first.conv, plain.first.norm)
        down_blocks: Iterable[Any] = plain.down_blocks
        self.down_convs = nn.ModuleList(merged_conv(block.conv, block.norm) for block in down_blocks)
        self.second = plain.second
        resblocks: Iterable[Any] = plain.resblocks_3d
        self.resblocks_3d = nn.ModuleList(FoldedResBlock3d(block) for block in resblocks)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, C, D, H/4, W/4)."""
        x = self.first(image.to(self.first.weight.dtype, memory_format=torch.channels_last)).relu_()
        for conv in self.down_convs:
            x = F.avg_pool2d(conv(x).relu_(), 2)
        volume = self.second(x).unflatten(1, (-1, self.depth))
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
        for block in self.resblocks_3d:
            volume = block(volume)
        return volume

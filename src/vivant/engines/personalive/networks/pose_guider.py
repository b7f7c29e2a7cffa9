"""E_p: drawn keypoints -> features that are added to the denoiser's first convolution. Names as published."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn


class PoseGuider(nn.Module):
    """Convolutions, down to an eighth of the drawing."""

    def __init__(self, channels: tuple[int, int, int, int], num_out: int):
        super().__init__()
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in itertools.pairwise(channels):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
        self.conv_out_modify = nn.Conv2d(channels[-1], num_out, 3, padding=1)

    def forward(self, drawing: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, C, H / 8, W / 8)."""
        x = F.silu(self.conv_in(drawing))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out_modify(x)

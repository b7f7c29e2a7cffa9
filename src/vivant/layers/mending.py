"""What a VAE of a few components leaves out of pictures, as far as it can be told from them; nothing, to begin with.

Of flashportrait, where it was written, and personalive.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MENDED_CELL = 4
"""Pixels to a cell, each way."""


class Mending(nn.Module):
    """Pictures (B, C, H, W), or a few frames as one picture of more channels, in cells of 4 x 4 pixels."""

    def __init__(self, picture_channels: int, width: int, num_blocks: int):
        super().__init__()
        values = picture_channels * MENDED_CELL**2
        self.enter = nn.Conv2d(values, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(num_blocks)
        )
        self.leave = nn.Conv2d(width, values, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.pixel_unshuffle(pictures, MENDED_CELL).contiguous(memory_format=torch.channels_last)
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return F.pixel_shuffle(self.leave(F.silu(x)), MENDED_CELL)

"""F: portrait crop -> appearance volume, once per portrait (arXiv 2407.03168, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from vivant.engines.liveportrait.config import PublishedConfig
from vivant.engines.liveportrait.networks.layers import DownBlock2d, ResBlock3d, SameBlock2d

NUM_VOLUME_BLOCKS = 6


class AppearanceExtractor(nn.Module):
    """Two halvings in 2-D, then the channels are read as (channel, depth) and refined in 3-D."""

    def __init__(self, config: PublishedConfig):
        super().__init__()
        full, half, quarter = config.appearance_channels
        self.depth = config.depth
        self.first = SameBlock2d(3, full)
        self.down_blocks = nn.ModuleList([DownBlock2d(full, half), DownBlock2d(half, quarter)])
        self.second = nn.Conv2d(quarter, config.volume_channels * config.depth, 1)
        self.resblocks_3d = nn.Sequential()
        for index in range(NUM_VOLUME_BLOCKS):
            self.resblocks_3d.add_module(f"3dr{index}", ResBlock3d(config.volume_channels))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, C, D, H/4, W/4)."""
        x = self.first(image)
        for block in self.down_blocks:
            x = block(x)
        return self.resblocks_3d(self.second(x).unflatten(1, (-1, self.depth)))

"""Blocks that the appearance and warping networks share. Names follow the published weights.

Legend: B batch, C channels, D depth cells, H W cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameBlock2d(nn.Module):
    """Convolution 3x3, batch norm, (leaky) ReLU."""

    def __init__(self, num_in: int, num_out: int, negative_slope: float = 0.0):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(num_out)
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), self.negative_slope)


class DownBlock2d(nn.Module):
    """Convolution 3x3, batch norm, ReLU, half the size."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)


class ResBlock3d(nn.Module):
    """Pre-activation residual block on a volume."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.norm1 = nn.BatchNorm3d(num_channels)
        self.conv1 = nn.Conv3d(num_channels, num_channels, 3, padding=1)
        self.norm2 = nn.BatchNorm3d(num_channels)
        self.conv2 = nn.Conv3d(num_channels, num_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


class DownBlock3d(nn.Module):
    """Convolution 3x3x3, batch norm, ReLU, half the height and width; depth is never pooled."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv = nn.Conv3d(num_in, num_out, 3, padding=1)
        self.norm = nn.BatchNorm3d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        return pool_height_width(F.relu(self.norm(self.conv(x))))


class UpBlock3d(nn.Module):
    """Twice the height and width (nearest), convolution 3x3x3, batch norm, ReLU."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv = nn.Conv3d(num_in, num_out, 3, padding=1)
        self.norm = nn.BatchNorm3d(num_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(F.interpolate(x, scale_factor=(1, 2, 2)))))


def pool_height_width(x: Tensor) -> Tensor:
    """Average over 2x2 cells: (B, C, D, H, W) -> (B, C, D, H/2, W/2).

    As a 2-D pooling of B D pictures, because avg_pool3d has no bfloat16 kernel on the CPU.
    """
    batch = len(x)
    pictures = F.avg_pool2d(x.transpose(1, 2).flatten(0, 1), 2)
    return pictures.unflatten(0, (batch, -1)).transpose(1, 2)

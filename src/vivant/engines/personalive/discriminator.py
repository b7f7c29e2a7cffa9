"""The judge of stages 2 and 3: a residual convolutional network that knows the noise level pictures came from.

Shaped like StyleGAN2's (arXiv 1912.04958): equalised learning rates, blurred halving, residual blocks, the spread of
the batch as one more map. After every block a time embedding is added through a layer that begins at zero. The
published one starts from weights trained on FFHQ, whose licence is not commercial; ours starts from nothing.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.ops.constants import constant

TIME_CHANNELS = 512
SLOPE, GAIN = 0.2, math.sqrt(2.0)


class EqualConv(nn.Module):
    """A convolution whose weights have variance 1 and are scaled when used."""

    def __init__(self, num_in: int, num_out: int, kernel: int, *, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.scale = 1 / math.sqrt(num_in * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[2] // 2)


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, SLOPE) * GAIN


def halved(x: Tensor) -> Tensor:
    """Half the size after a blur of 1 3 3 1."""
    taps = constant((0.125, 0.375, 0.375, 0.125), x.device, x.dtype)
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, stride=2, groups=x.shape[1])


class Block(nn.Module):
    """Half the size, more channels, told the time."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.conv0 = EqualConv(num_in, num_in, 3)
        self.conv1 = EqualConv(num_in, num_out, 3)
        self.skip = EqualConv(num_in, num_out, 1, bias=False)
        self.time = nn.Linear(TIME_CHANNELS, num_out)
        nn.init.zeros_(self.time.weight)
        nn.init.zeros_(self.time.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        y = halved(activated(self.conv1(activated(self.conv0(x)))))
        y = (y + self.skip(halved(x))) / GAIN
        return y + self.time(time)[:, :, None, None]


class Discriminator(nn.Module):
    """Pictures (B, 3, S, S) in [-1, 1] and the steps (B,) they were drawn from -> scores (B,)."""

    def __init__(self, size: int, channel_base: int = 32768, max_channels: int = 512):
        super().__init__()
        sides = [size >> k for k in range(int(math.log2(size // 4)) + 1)]
        widths = [min(channel_base // side, max_channels) for side in sides]
        self.from_rgb = EqualConv(3, widths[0], 1)
        self.blocks = nn.ModuleList(Block(a, b) for a, b in pairwise(widths))
        self.last = EqualConv(widths[-1] + 1, widths[-1], 3)
        self.hidden = nn.Linear(widths[-1] * sides[-1] ** 2, widths[-1])
        self.score = nn.Linear(widths[-1], 1)

    def forward(self, pictures: Tensor, steps: Tensor) -> Tensor:
        time = _waves(steps)
        x = activated(self.from_rgb(pictures))
        for block in self.blocks:
            x = block(x, time)
        spread = x.float().std(0, unbiased=False).mean().to(x.dtype).expand(len(x), 1, *x.shape[2:])
        x = activated(self.last(torch.cat([x, spread], 1)))
        return self.score(activated(self.hidden(x.flatten(1))))[:, 0]


def _waves(steps: Tensor) -> Tensor:
    """(B,) -> (B, TIME_CHANNELS)."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(torch.arange(half, device=steps.device) * (-math.log(10000.0) / half))
    angles = steps.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)

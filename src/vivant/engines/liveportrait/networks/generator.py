"""G: warped feature map -> picture, a SPADE decoder (arXiv 1903.07291) that ends in a pixel shuffle.

The same map is the input and the condition of every normalisation. Plain form, as published; `folded_generator`
is the fast one. Legend: B batch, C channels, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.config import PublishedConfig

NUM_MIDDLE_BLOCKS = 6
SLOPE = 0.2
NORM_EPS = 1e-5


class SpectralConv2d(nn.Module):
    """Convolution with W / sigma, sigma = u . (W v) from the stored u and v (arXiv 1802.05957).

    u and v are only approximately singular vectors, so sigma must never come from an SVD.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, num_in: int, num_out: int, kernel: int, *, bias: bool = True):
        super().__init__()
        num_taps = num_in * kernel**2
        self.weight_orig = nn.Parameter(torch.randn(num_out, num_in, kernel, kernel) / num_taps**0.5)
        self.bias = nn.Parameter(torch.zeros(num_out)) if bias else None
        self.register_buffer("weight_u", F.normalize(torch.randn(num_out), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(num_taps), dim=0))
        for _ in range(5):
            self.update_vectors()

    @torch.no_grad()
    def update_vectors(self) -> None:
        """One power iteration towards the first singular vectors; done at each training step."""
        matrix = self.weight_orig.flatten(1)
        self.weight_v.copy_(F.normalize(matrix.mT @ self.weight_u, dim=0))
        self.weight_u.copy_(F.normalize(matrix @ self.weight_v, dim=0))

    def weight(self) -> Tensor:
        with torch.autocast(
            self.weight_orig.device.type, enabled=False
        ):  # a product in half would not fit the dot
            return self.weight_orig / torch.dot(self.weight_u, self.weight_orig.flatten(1) @ self.weight_v)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.update_vectors()
        return F.conv2d(x, self.weight(), self.bias, padding=self.weight_orig.shape[-1] // 2)


class Modulation(nn.Module):
    """SPADE: IN(x) (1 + gamma(seg)) + beta(seg)."""

    def __init__(self, num_channels: int, num_condition: int, num_hidden: int):
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(num_condition, num_hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(num_hidden, num_channels, 3, padding=1)
        self.mlp_beta = nn.Conv2d(num_hidden, num_channels, 3, padding=1)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        """x (B, C, H, W), seg (B, C', h, w) of any size."""
        shared = self.mlp_shared(F.interpolate(seg, size=x.shape[2:]))
        normed = F.instance_norm(x, eps=NORM_EPS)
        return normed * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class ModulatedBlock(nn.Module):
    """Residual block with modulated normalisation; a learned shortcut where the width changes."""

    def __init__(self, num_in: int, num_out: int, num_condition: int, num_hidden: int):
        super().__init__()
        middle = min(num_in, num_out)
        self.learned_shortcut = num_in != num_out
        self.conv_0 = SpectralConv2d(num_in, middle, 3)
        self.conv_1 = SpectralConv2d(middle, num_out, 3)
        self.norm_0 = Modulation(num_in, num_condition, num_hidden)
        self.norm_1 = Modulation(middle, num_condition, num_hidden)
        if self.learned_shortcut:
            self.conv_s = SpectralConv2d(num_in, num_out, 1, bias=False)
            self.norm_s = Modulation(num_in, num_condition, num_hidden)

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        dx = self.conv_0(F.leaky_relu(self.norm_0(x, seg), SLOPE))
        dx = self.conv_1(F.leaky_relu(self.norm_1(dx, seg), SLOPE))
        shortcut = self.conv_s(self.norm_s(x, seg)) if self.learned_shortcut else x
        return shortcut + dx


class Generator(nn.Module):
    """Six blocks at the size of the map, one at twice and one at four times that, output at eight times."""

    def __init__(self, config: PublishedConfig):
        super().__init__()
        wide, half, narrow = config.generator_channels
        condition, hidden = config.warped_channels, config.modulation_channels
        self.fc = nn.Conv2d(condition, wide, 3, padding=1)
        for index in range(NUM_MIDDLE_BLOCKS):
            self.add_module(f"G_middle_{index}", ModulatedBlock(wide, wide, condition, hidden))
        self.up_0 = ModulatedBlock(wide, half, condition, hidden)
        self.up_1 = ModulatedBlock(half, narrow, condition, hidden)
        self.conv_img = nn.Sequential(nn.Conv2d(narrow, 12, 3, padding=1), nn.PixelShuffle(2))

    def middle_blocks(self) -> list[ModulatedBlock]:
        return [getattr(self, f"G_middle_{index}") for index in range(NUM_MIDDLE_BLOCKS)]

    def forward(self, seg: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w) in [0, 1]."""
        x = self.fc(seg)
        for block in self.middle_blocks():
            x = block(x, seg)
        x = self.up_0(F.interpolate(x, scale_factor=2), seg)
        x = self.up_1(F.interpolate(x, scale_factor=2), seg)
        return self.conv_img(F.leaky_relu(x, SLOPE)).sigmoid()

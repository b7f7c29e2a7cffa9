"""Building blocks of the compact networks. Legend: B batch, C channels, H W pixels, K keypoints.

Everything that decides *where* to sample (grids, flows, keypoint maps) is computed in float32, whatever the
precision of the convolutions: in bfloat16 a coordinate near 1 moves in steps of a whole pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_CHANNELS = 12
"""Below this many, turning a picture as a matrix saves nothing."""
FAR = -80.0
"""Exponent of a bell where it is as good as zero."""


class ConvNormAct(nn.Sequential):
    """Convolution, batch norm, ReLU (the convolution has no bias: the norm has one)."""

    def __init__(self, num_in: int, num_out: int, *, kernel: int = 3, stride: int = 1, act: bool = True):
        layers: list[nn.Module] = [
            nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(num_out),
        ]
        if act:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class Residual(nn.Module):
    """ReLU(x + f(x)) with two 3x3 convolutions."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.first = ConvNormAct(num_channels, num_channels)
        self.second = ConvNormAct(num_channels, num_channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)), inplace=True)


class Down(nn.Sequential):
    """Halve the picture, then one residual block."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__(ConvNormAct(num_in, num_out, stride=2), Residual(num_out))


class Up(nn.Module):
    """Double the picture and add a skip: convolve first, upsample after, add instead of concatenating."""

    def __init__(self, num_in: int, num_skip: int, num_out: int):
        super().__init__()
        self.low = nn.Conv2d(num_in, num_out, 3, 1, 1, bias=False)
        self.skip = nn.Conv2d(num_skip, num_out, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(num_out)

    @torch.no_grad()
    def fold(self) -> None:
        """Merge the norm: its gain goes to both convolutions that are added, its shift to one of them."""
        norm = self.norm
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        self.low = nn.utils.fusion.fuse_conv_bn_eval(self.low, norm)
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.skip.weight.mul_(gain[:, None, None, None])
        self.norm = nn.Identity()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = F.interpolate(self.low(x), scale_factor=2, mode="bilinear", align_corners=False)
        return F.relu(self.norm(up.add_(self.skip(skip))), inplace=True)


def quiet(convolution: nn.Conv2d, std: float) -> None:
    """Start a last layer near zero: the network begins with its safe default."""
    nn.init.normal_(convolution.weight, std=std)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def laid_out(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Pictures (B, C, H, W) as convolutions take them: in their precision, channels last.

    One picture of many channels is turned as a matrix, which takes a CPU a quarter of the time that torch needs.
    """
    count, channels, height, width = x.shape
    planned = x.device.type != "cpu" or torch.compiler.is_compiling()  # layouts are somebody else's business
    if planned or count > 1 or channels < FEW_CHANNELS:
        return x.to(dtype).contiguous(memory_format=torch.channels_last)
    turned = x[0].to(dtype).flatten(1).t().contiguous()
    return turned.view(1, height, width, channels).permute(0, 3, 1, 2)


def halved(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) of even sides at half the size, float32: F.avg_pool2d(x, 2) in a third of its time."""
    rows = x[..., ::2, :], x[..., 1::2, :]
    quarters = [row[..., column::2].float() for row in rows for column in (0, 1)]
    return (quarters[0] + quarters[1] + quarters[2] + quarters[3]) / 4


def pixel_grid(size: int, device: torch.device) -> Tensor:
    """Pixel centres of a size x size picture in [-1, 1], shape (size, size, 2), order x, y."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1)


def resize_flow(flow: Tensor, size: int) -> Tensor:
    """Flow (B, h, w, 2) in [-1, 1] units at another resolution."""
    if flow.shape[1] == size:
        return flow
    smaller = flow.shape[1] > size
    planes = flow.permute(0, 3, 1, 2)
    if smaller and flow.shape[1] % size == 0:
        planes = F.avg_pool2d(planes, flow.shape[1] // size)
    else:
        planes = F.interpolate(planes.contiguous(), size=(size, size), mode="bilinear", align_corners=False)
    return planes.permute(0, 2, 3, 1)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Sample x (B, C, S, S) at every pixel plus flow (B, h, w, 2): backward warping, edges repeated."""
    size = x.shape[-1]
    grid = pixel_grid(size, x.device) + resize_flow(flow.float(), size)
    return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _bells(points: Tensor, size: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Gaussians around x and around y of points (B, P, 2), at the pixel centres of a picture: two (B, P, size).

    Cut to zero far away: tails and products of two of them are below 1e-38, and CPUs take 100 times as long over
    such numbers.
    """
    centres = (torch.arange(size, device=points.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    x, y = (
        torch.exp((-0.5 / sigma**2 * (centres - points[..., i : i + 1]) ** 2).clamp(min=FAR)) for i in (0, 1)
    )
    return F.threshold(x, 1e-13, 0.0), F.threshold(y, 1e-13, 0.0)


def splat(points: Tensor, counts: list[int], size: int, sigma: float) -> Tensor:
    """Draw groups of points as soft dots: (B, P, 2) with P = sum(counts) -> (B, len(counts), size, size) in [0, 1].

    Separable Gaussians: one outer product per point, summed inside a group by a matrix product, clamped at 1
    so that a contour made of close points is an even line.
    """
    columns, rows = _bells(points, size, sigma)  # (B, P, size)
    maps = [
        torch.matmul(r.transpose(1, 2), c)
        for r, c in zip(rows.split(counts, 1), columns.split(counts, 1), strict=True)
    ]
    return torch.stack(maps, 1).clamp(max=1.0)


def keypoint_flow(driving: Tensor, displacement: Tensor, size: int, sigma: float) -> Tensor:
    """Displacements (B, K, 2) spread from driving points (B, K, 2): (B, 3, size, size).

    Channels 0-1: Gaussian-weighted mean displacement; channel 2: how much any point is near (0..1).
    """
    columns, rows = _bells(driving, size, sigma)  # (B, K, size)
    values = torch.cat([displacement, torch.ones_like(displacement[..., :1])], 2)  # (B, K, 3)
    weighted = rows[:, None] * values.transpose(1, 2)[..., None]  # (B, 3, K, size)
    total = torch.matmul(weighted.transpose(2, 3), columns[:, None])  # (B, 3, size, size)
    weight = total[:, 2:]
    return torch.cat([total[:, :2] / (weight + 0.02), weight.clamp(max=4) / 4], 1)


def rotation_from_6d(a: Tensor) -> Tensor:
    """Six numbers (B, 6) to a rotation matrix (B, 3, 3) by Gram-Schmidt (Zhou et al., CVPR 2019)."""
    first = F.normalize(a[:, :3], dim=1)
    second = F.normalize(a[:, 3:] - (first * a[:, 3:]).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.cross(first, second, dim=1)], 1)

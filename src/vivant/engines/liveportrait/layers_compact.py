"""Building blocks of the compact networks. Legend: B batch, C channels, H W pixels, K keypoints.

Everything that decides *where* to sample (grids, flows, keypoint maps) is computed in float32, whatever the
precision of the convolutions: in bfloat16 a coordinate near 1 moves in steps of a whole pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.ops.exact import exactly

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
    if _is_planned(x) or count > 1 or channels < FEW_CHANNELS or x.stride(1) == 1:
        return x.to(dtype).contiguous(memory_format=torch.channels_last)
    turned = x[0].to(dtype).flatten(1).t().contiguous()
    return turned.view(1, height, width, channels).permute(0, 3, 1, 2)


def _is_planned(x: Tensor) -> bool:
    """Whether layouts are somebody else's business: of a GPU, or of a compiler."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


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
    x, flow = x.float(), resize_flow(flow.float(), size)
    grid = pixel_grid(size, x.device)
    is_table = len(x) == 1 and x.shape[1] >= FEW_CHANNELS and x.stride(1) == 1
    if is_table and not _is_planned(x) and not torch.is_grad_enabled():
        return _looked_up(x, grid.permute(2, 0, 1) + flow[0].permute(2, 0, 1))
    return F.grid_sample(x, grid + flow, mode="bilinear", padding_mode="border", align_corners=False)


def _looked_up(x: Tensor, places: Tensor) -> Tensor:
    """F.grid_sample of one picture (1, C, S, S) that lies channels last, at places (2, S, S).

    Each pixel is a sum of four rows of a table, so that a CPU's vectors go along the channels and nothing is turned.
    """
    channels, size = x.shape[1:3]
    at = (places.flatten(1) + 1).mul_(size / 2).sub_(0.5).clamp_(0, size - 1)
    low = at.floor().clamp_(max=size - 2)
    right, lower = at.sub_(low)
    left, upper = 1 - at
    corner = torch.add(low[0], low[1], alpha=size).int()
    corners = corner[:, None] + corner.new_tensor([0, 1, size, size + 1])
    shares = torch.stack([left * upper, right * upper, left * lower, right * lower], 1)
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    sampled = F.embedding_bag(corners, rows, per_sample_weights=shares, mode="sum")
    return sampled.view(1, size, size, channels).permute(0, 3, 1, 2)


def _bells(points: Tensor, size: int, sigmas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Gaussians around x and around y of points (B, P, 2), at the pixel centres of a picture.

    Two (R, B, P, size) for R radii. Cut to zero far away: tails and products of two of them are below 1e-38, and CPUs
    take 100 times as long over such numbers.
    """
    centres = (torch.arange(size, device=points.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    slopes = torch.tensor([-0.5 / sigma**2 for sigma in sigmas], device=points.device).view(-1, 1, 1, 1, 1)
    exponents = slopes * (centres - points.transpose(1, 2)[..., None]) ** 2  # (R, B, 2, P, size)
    x, y = F.threshold(torch.exp(exponents.clamp(min=FAR)), 1e-13, 0.0).unbind(2)
    return x, y


@exactly
def splat(points: Tensor, counts: list[int], size: int, sigma: float) -> Tensor:
    """Draw groups of points as soft dots: (B, P, 2) with P = sum(counts) -> (B, len(counts), size, size) in [0, 1].

    Separable Gaussians: one outer product per point, summed inside a group by a matrix product, clamped at 1
    so that a contour made of close points is an even line.
    """
    columns, rows = (bells[0] for bells in _bells(points, size, [sigma]))  # (B, P, size)
    maps = [
        torch.matmul(r.transpose(1, 2), c)
        for r, c in zip(rows.split(counts, 1), columns.split(counts, 1), strict=True)
    ]
    return torch.stack(maps, 1).clamp(max=1.0)


@exactly
def keypoint_flows(driving: Tensor, displacement: Tensor, size: int, sigmas: Sequence[float]) -> Tensor:
    """Displacements (B, K, 2) spread from driving points (B, K, 2) by R radii: (R, B, 3, size, size).

    Channels 0-1: Gaussian-weighted mean displacement; channel 2: how much any point is near (0..1).
    """
    columns, rows = _bells(driving, size, sigmas)  # (R, B, K, size)
    values = torch.cat([displacement, torch.ones_like(displacement[..., :1])], 2)  # (B, K, 3)
    weighted = rows[:, :, None] * values.transpose(1, 2)[..., None]  # (R, B, 3, K, size)
    total = torch.matmul(weighted.transpose(3, 4), columns[:, :, None])  # (R, B, 3, size, size)
    weight = total[:, :, 2:]
    return torch.cat([total[:, :, :2] / (weight + 0.02), weight.clamp(max=4) / 4], 2)


def rotation_from_6d(a: Tensor) -> Tensor:
    """Six numbers (B, 6) to a rotation matrix (B, 3, 3) by Gram-Schmidt (Zhou et al., CVPR 2019)."""
    first = F.normalize(a[:, :3], dim=1)
    second = F.normalize(a[:, 3:] - (first * a[:, 3:]).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.cross(first, second, dim=1)], 1)

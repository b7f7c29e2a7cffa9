"""M: face crop -> head pose, expression and canonical keypoints (arXiv 2407.03168, section 3.2).

ConvNeXt V2 Tiny (arXiv 2301.00808) with seven linear heads. Submodule names are those of the published weights.
It knows nothing of portraits or engines, so that every family that speaks implicit keypoints can use it.
It computes in float32 whatever its neighbours do: a hundredth of the arithmetic of a frame, all of its motion. (On
CUDA, where they do in 16 bits, with TF32: keypoints move by as much as its convolutions in TF32 move them.)
Legend: B pictures, C channels, H W pixels, K keypoints, A angle bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.ops.short import short_products

STAGE_DEPTHS = (3, 3, 9, 3)
NORM_EPS = 1e-6


@dataclass
class HeadOutputs:
    """Raw answers of the seven heads, float32."""

    pitch: Tensor
    """(B, A) logits over bins of 3 degrees; see vivant.ops.rotation.degrees_from_bins."""
    yaw: Tensor
    """(B, A) logits."""
    roll: Tensor
    """(B, A) logits."""
    translation: Tensor
    """(B, 3)."""
    scale: Tensor
    """(B, 1)."""
    expression: Tensor
    """(B, K, 3): delta."""
    canonical: Tensor
    """(B, K, 3): x_c."""


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of a channels-last tensor (..., C)."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.eps = NORM_EPS

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class PictureNorm(ChannelNorm):
    """The same for a picture (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Channels compete by their energy over the picture (arXiv 2301.00808, Eq. 1 to 3), (B, H, W, C)."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, num_channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, num_channels))

    def forward(self, x: Tensor) -> Tensor:
        energy = x.square().sum((1, 2), keepdim=True).sqrt()
        gain = 1 + self.gamma * (energy / (energy.mean(-1, keepdim=True) + NORM_EPS))
        return torch.addcmul(self.beta, x, gain)


class Block(nn.Module):
    """Depthwise 7x7, then a two-layer network on every pixel, with a residual."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.dwconv = nn.Conv2d(num_channels, num_channels, 7, padding=3, groups=num_channels)
        self.norm = ChannelNorm(num_channels)
        self.pwconv1 = nn.Linear(num_channels, 4 * num_channels)
        self.grn = GlobalResponseNorm(4 * num_channels)
        self.pwconv2 = nn.Linear(4 * num_channels, num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.pwconv2(self.grn(F.gelu(self.pwconv1(y))))
        return x + y.permute(0, 3, 1, 2)


class ConvNeXtV2(nn.Module):
    """The backbone and its heads. Stages at 1/4, 1/8, 1/16 and 1/32 of the picture."""

    def __init__(self, channels: tuple[int, int, int, int], num_keypoints: int, num_angle_bins: int):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, channels[0], 4, stride=4), PictureNorm(channels[0]))
        self.downsample_layers = nn.ModuleList([stem])
        for narrow, wide in pairwise(channels):
            self.downsample_layers.append(
                nn.Sequential(PictureNorm(narrow), nn.Conv2d(narrow, wide, 2, stride=2))
            )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(width) for _ in range(depth)))
            for width, depth in zip(channels, STAGE_DEPTHS, strict=True)
        )
        self.norm = ChannelNorm(channels[-1])
        self.fc_kp = nn.Linear(channels[-1], 3 * num_keypoints)
        self.fc_scale = nn.Linear(channels[-1], 1)
        self.fc_pitch = nn.Linear(channels[-1], num_angle_bins)
        self.fc_yaw = nn.Linear(channels[-1], num_angle_bins)
        self.fc_roll = nn.Linear(channels[-1], num_angle_bins)
        self.fc_t = nn.Linear(channels[-1], 3)
        self.fc_exp = nn.Linear(channels[-1], 3 * num_keypoints)

    def features(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)."""
        x = image
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.norm(x.mean((2, 3)))

    def forward(self, image: Tensor) -> HeadOutputs:
        x = self.features(image)
        return HeadOutputs(
            pitch=self.fc_pitch(x),
            yaw=self.fc_yaw(x),
            roll=self.fc_roll(x),
            translation=self.fc_t(x),
            scale=self.fc_scale(x),
            expression=self.fc_exp(x).unflatten(1, (-1, 3)),
            canonical=self.fc_kp(x).unflatten(1, (-1, 3)),
        )


class MotionExtractor(nn.Module):
    """M. The backbone hangs under `detector`, as in the published weights."""

    keep_float32 = True
    """Read by vivant.runtime.precision."""

    def __init__(self, channels: tuple[int, int, int, int], num_keypoints: int, num_angle_bins: int):
        super().__init__()
        self.detector = ConvNeXtV2(channels, num_keypoints, num_angle_bins)

    def forward(self, image: Tensor) -> HeadOutputs:
        """(B, 3, H, W) RGB in [0, 1], H and W multiples of 32 -> raw head outputs."""
        with short_products(image.device), torch.autocast(image.device.type, enabled=False):
            return self.detector(image.float().contiguous(memory_format=torch.channels_last))

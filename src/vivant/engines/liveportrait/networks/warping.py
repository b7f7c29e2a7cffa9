"""W: move the appearance volume from the source keypoints to the driving ones (arXiv 2407.03168, Fig. 2).

A translation per keypoint, mixed by masks that a 3-D hourglass predicts, plus an occlusion map. Everything that
decides where to sample is float32 whatever the convolutions use: in bfloat16 a coordinate near 1 moves in steps
of an eighth of a cell. This is the plain form, as published; `folded_warping` is the fast one.
Legend: B batch, C channels, D depth cells, h w cells, K keypoints. Coordinates x right, y down, z inward.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.config import PublishedConfig
from vivant.engines.liveportrait.networks.layers import DownBlock3d, SameBlock2d, UpBlock3d
from vivant.ops.warp import identity_grid

NUM_HOURGLASS_BLOCKS = 5
KEYPOINT_VARIANCE = 0.01
WARPED_SLOPE = 0.01


@dataclass
class DenseMotion:
    """Where every cell of the output looks in the source volume, and whether it can be seen there."""

    deformation: Tensor
    """(B, D, h, w, 3) float32 sampling coordinates in [-1, 1]."""
    occlusion: Tensor
    """(B, 1, h, w) in [0, 1]."""


class Encoder(nn.Module):
    def __init__(self, widths: list[int]):
        super().__init__()
        self.down_blocks = nn.ModuleList(DownBlock3d(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The input and every level below it."""
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        return levels


class Decoder(nn.Module):
    def __init__(self, pairs: list[tuple[int, int]], num_out: int):
        super().__init__()
        self.up_blocks = nn.ModuleList(UpBlock3d(a, b) for a, b in pairs)
        self.conv = nn.Conv3d(num_out, num_out, 3, padding=1)
        self.norm = nn.BatchNorm3d(num_out)

    def forward(self, levels: list[Tensor]) -> Tensor:
        x = levels[-1]
        for block, skip in zip(self.up_blocks, levels[-2::-1], strict=True):
            x = torch.cat([block(x), skip], 1)
        return F.relu(self.norm(self.conv(x)))


class Hourglass(nn.Module):
    """Encoder and decoder with concatenated skips; the last skip is the input itself."""

    def __init__(self, num_in: int, base: int, maximum: int):
        super().__init__()
        widths = [num_in] + [min(maximum, base * 2 ** (i + 1)) for i in range(NUM_HOURGLASS_BLOCKS)]
        outs = [min(maximum, base * 2**i) for i in reversed(range(NUM_HOURGLASS_BLOCKS))]
        skips = widths[-2::-1]
        ins = [widths[-1], *(out + skip for out, skip in zip(outs[:-1], skips[:-1], strict=True))]
        self.num_out = outs[-1] + num_in
        self.encoder = Encoder(widths)
        self.decoder = Decoder(list(zip(ins, outs, strict=True)), self.num_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class DenseMotionNetwork(nn.Module):
    """Keypoint pairs and a compressed volume -> dense motion."""

    def __init__(self, config: PublishedConfig, num_keypoints: int):
        super().__init__()
        num_motions = num_keypoints + 1
        num_inputs = num_motions * (config.compressed_channels + 1)
        self.hourglass = Hourglass(num_inputs, config.hourglass_channels, config.hourglass_max_channels)
        width = self.hourglass.num_out
        self.mask = nn.Conv3d(width, num_motions, 7, padding=3)
        self.compress = nn.Conv3d(config.volume_channels, config.compressed_channels, 1)
        self.norm = nn.BatchNorm3d(config.compressed_channels)
        self.occlusion = nn.Conv2d(width * config.depth, 1, 7, padding=3)

    def compressed(self, volume: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, 4, D, h, w). Depends on the source only."""
        return F.relu(self.norm(self.compress(volume)))

    def forward(self, compressed: Tensor, keypoints_source: Tensor, keypoints_driving: Tensor) -> DenseMotion:
        motions = sparse_motions(compressed.shape[2:], keypoints_source, keypoints_driving)
        heat = heatmaps(compressed.shape[2:], keypoints_source, keypoints_driving)
        inputs = torch.cat([heat, deform(compressed, motions)], 2).flatten(1, 2)
        features = self.hourglass(inputs)
        mask = self.mask(features).float().softmax(1)
        deformation = (mask[..., None] * motions).sum(1)
        return DenseMotion(deformation, self.occlusion(features.flatten(1, 2)).sigmoid())


def sparse_motions(size: torch.Size, source: Tensor, driving: Tensor) -> Tensor:
    """Identity, then one translation per keypoint: grid - x_d,k + x_s,k, (B, K + 1, D, h, w, 3)."""
    grid = identity_grid(size, source.device)
    shift = F.pad(source - driving, (0, 0, 1, 0))
    return grid + shift[:, :, None, None, None]


def deform(compressed: Tensor, motions: Tensor) -> Tensor:
    """The compressed volume under every motion: (B, K + 1, C, D, h, w).

    align_corners=False on a grid whose end points lie on the border: as published, not an identity warp.
    """
    batch, count = motions.shape[:2]
    repeated = compressed[:, None].expand(-1, count, -1, -1, -1, -1).flatten(0, 1)
    warped = F.grid_sample(repeated.to(motions.dtype), motions.flatten(0, 1), align_corners=False)
    return warped.unflatten(0, (batch, count))


def heatmaps(size: torch.Size, source: Tensor, driving: Tensor) -> Tensor:
    """exp(-|grid - x|^2 / 0.02) at the driving minus at the source keypoints: (B, K + 1, 1, D, h, w), first 0."""
    grid = identity_grid(size, source.device)

    def gaussian(points: Tensor) -> Tensor:
        distance = (grid - points[:, :, None, None, None]).square().sum(-1)
        return torch.exp(-0.5 / KEYPOINT_VARIANCE * distance)

    return F.pad(gaussian(driving) - gaussian(source), (0, 0, 0, 0, 0, 0, 1, 0))[:, :, None]


class WarpingNetwork(nn.Module):
    """Volume and keypoint pairs -> warped feature map for the generator."""

    def __init__(self, config: PublishedConfig, num_keypoints: int):
        super().__init__()
        self.dense_motion_network = DenseMotionNetwork(config, num_keypoints)
        flat = config.volume_channels * config.depth
        self.third = SameBlock2d(flat, config.warped_channels, WARPED_SLOPE)
        self.fourth = nn.Conv2d(config.warped_channels, config.warped_channels, 1)

    def prepare(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` needs of the portrait: the volume and its compressed form."""
        return volume, self.dense_motion_network.compressed(volume)

    def forward(
        self, prepared: tuple[Tensor, Tensor], keypoints_source: Tensor, keypoints_driving: Tensor
    ) -> Tensor:
        """Keypoints (B, K, 3) -> (B, C, h, w)."""
        volume, compressed = prepared
        motion = self.dense_motion_network(compressed, keypoints_source, keypoints_driving)
        warped = F.grid_sample(volume, motion.deformation, align_corners=False)
        return self.fourth(self.third(warped.flatten(1, 2))) * motion.occlusion

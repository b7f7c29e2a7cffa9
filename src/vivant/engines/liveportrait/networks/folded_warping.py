"""W for inference: the same function as `warping`, with everything constant merged and nothing computed twice.

Exact savings: batch norms go into their convolutions; shifted volumes are separable; the deformation is one
matrix product of the mask with the keypoint shifts (the masks sum to one); an upsampling block is a transposed
convolution; the 7x7x7 mask convolution runs in the Fourier domain along depth; the occlusion convolution, one
output from thousands of inputs, is a matrix product per tap followed by shifts.
Legend: B batch, C channels, D depth cells, h w cells, K keypoints. Sampling and masks are float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.networks.depth_fourier import DepthFourierConv
from vivant.engines.liveportrait.networks.layers import DownBlock3d, UpBlock3d, pool_height_width
from vivant.engines.liveportrait.networks.warping import (
    KEYPOINT_VARIANCE,
    WARPED_SLOPE,
    DenseMotion,
    DenseMotionNetwork,
    Hourglass,
    WarpingNetwork,
)
from vivant.ops.folding import bias_of, merge_batch_norm, merged_conv, upsampled_weight, with_weights
from vivant.ops.warp import axis_positions, identity_grid, sample_volume, shifted_volumes


class FoldedDown(nn.Module):
    def __init__(self, plain: DownBlock3d):
        super().__init__()
        self.conv = merged_conv(plain.conv, plain.norm)

    def forward(self, x: Tensor) -> Tensor:
        return pool_height_width(self.conv(x).relu_())


class FoldedUp(nn.Module):
    """Upsampling and convolution at once. Not for the smallest size, where oneDNN's kernel is slow."""

    def __init__(self, plain: UpBlock3d):
        super().__init__()
        weight, bias = merge_batch_norm(plain.conv, plain.norm)
        num_out, num_in = weight.shape[:2]
        conv = nn.ConvTranspose3d(num_in, num_out, (3, 4, 4), (1, 2, 2), padding=1, device="meta")
        # A transposed convolution walks its kernel backwards; the folding did so for height and width only.
        self.conv = with_weights(conv, upsampled_weight(weight, 2).flip(2), bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu_()


class FoldedSmallestUp(nn.Module):
    def __init__(self, plain: UpBlock3d):
        super().__init__()
        self.conv = merged_conv(plain.conv, plain.norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=(1, 2, 2))).relu_()


class FoldedHourglass(nn.Module):
    def __init__(self, plain: Hourglass):
        super().__init__()
        downs: Iterable[Any] = plain.encoder.down_blocks
        ups: list[Any] = list(plain.decoder.up_blocks)
        self.down_blocks = nn.ModuleList(FoldedDown(block) for block in downs)
        self.up_blocks = nn.ModuleList([FoldedSmallestUp(ups[0]), *(FoldedUp(block) for block in ups[1:])])
        self.conv = merged_conv(plain.decoder.conv, plain.decoder.norm)

    def forward(self, x: Tensor) -> Tensor:
        levels = [x]
        for block in self.down_blocks:
            levels.append(block(levels[-1]))
        x = levels.pop()
        for block in self.up_blocks:
            x = torch.cat([block(x), levels.pop()], 1)
        return self.conv(x).relu_()


class FoldedDenseMotion(nn.Module):
    """Keypoint pairs and the compressed volume -> dense motion."""

    def __init__(self, plain: DenseMotionNetwork):
        super().__init__()
        self.compress = merged_conv(plain.compress, plain.norm)
        self.hourglass = FoldedHourglass(_features_first(plain.hourglass, plain.compress.out_channels))
        num_features = plain.hourglass.num_out
        depth = plain.occlusion.in_channels // num_features
        self.mask = DepthFourierConv(plain.mask, depth)
        self.occlusion = TapwiseConv(
            plain.occlusion.weight.unflatten(1, (num_features, depth)), bias_of(plain.occlusion)
        )

    def compressed(self, volume: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, 4, D, h, w) float32. Depends on the source only."""
        return self.compress(volume.to(self.compress.weight.dtype)).relu_().float()

    def forward(self, compressed: Tensor, keypoints_source: Tensor, keypoints_driving: Tensor) -> DenseMotion:
        size = compressed.shape[2:]
        shifts = F.pad(keypoints_source - keypoints_driving, (0, 0, 1, 0))
        inputs = self._inputs(compressed, shifts, keypoints_source, keypoints_driving)
        features = self.hourglass(inputs)
        mask = self.mask(features).softmax(-1)
        moved = (mask.flatten(1, 3) @ shifts).view(-1, *size, 3)
        return DenseMotion(identity_grid(size, mask.device) + moved, self.occlusion(features).sigmoid_())

    def _inputs(self, compressed: Tensor, shifts: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """Features of every motion, then heatmaps: (B, (K + 1) (C + 1), D, h, w) channels last."""
        dtype = self.compress.weight.dtype
        deformed = shifted_volumes(compressed, shifts).flatten(4).to(dtype)
        heat = separable_heatmaps(compressed.shape[2:], driving) - separable_heatmaps(
            compressed.shape[2:], source
        )
        return torch.cat([deformed, F.pad(heat, (1, 0)).to(dtype)], -1).permute(0, 4, 1, 2, 3)


class TapwiseConv(nn.Module):
    """A k x k convolution of (C, D) channels to one: a product with all taps, then one shift per tap."""

    def __init__(self, weight: Tensor, bias: Tensor):
        """weight (1, C, D, k, k), bias (1,)."""
        super().__init__()
        self.kernel = weight.shape[-1]
        # Flipped: F.fold scatters from the tap's cell where a convolution gathers.
        taps = weight[0].flip(2, 3).permute(1, 0, 2, 3).flatten(2)
        rows = taps.mT.reshape(-1, taps.shape[1], 1)
        conv = nn.Conv1d(rows.shape[1], rows.shape[0], 1, bias=False, device="meta")
        self.taps = with_weights(conv, rows, None)
        self.bias = nn.Parameter(bias.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, 1, h, w) float32."""
        batch, channels, depth, height, width = x.shape
        rows = x.permute(0, 2, 3, 4, 1).reshape(batch, depth, -1, channels)
        taps = self.taps.weight.view(depth, -1, channels).mT
        products = (rows @ taps).sum(1, dtype=torch.float32).mT
        return F.fold(products, (height, width), self.kernel, padding=self.kernel // 2) + self.bias


class FoldedWarping(nn.Module):
    """The folded form of a WarpingNetwork."""

    def __init__(self, plain: WarpingNetwork):
        super().__init__()
        self.dense_motion_network = FoldedDenseMotion(plain.dense_motion_network)
        self.third = merged_conv(plain.third.conv, plain.third.norm)
        self.fourth = plain.fourth

    def prepare(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` needs of the portrait, float32 (it is sampled)."""
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
        return volume.float(), self.dense_motion_network.compressed(volume)

    def forward(
        self, prepared: tuple[Tensor, Tensor], keypoints_source: Tensor, keypoints_driving: Tensor
    ) -> Tensor:
        """Keypoints (B, K, 3) -> (B, C, h, w)."""
        volume, compressed = prepared
        motion = self.dense_motion_network(compressed, keypoints_source, keypoints_driving)
        warped = sample_volume(volume, motion.deformation).flatten(1, 2)
        warped = warped.to(self.third.weight.dtype, memory_format=torch.channels_last)
        x = F.leaky_relu_(self.third(warped), WARPED_SLOPE)
        return self.fourth(x) * motion.occlusion


def separable_heatmaps(size: torch.Size, points: Tensor) -> Tensor:
    """exp(-|grid - x|^2 / 0.02) of points (B, K, 3): (B, D, h, w, K), as a product of one factor per axis."""
    x, y, z = (
        torch.exp(
            -0.5
            / KEYPOINT_VARIANCE
            * (axis_positions(length, points.device)[:, None] - points[:, None, :, axis]).square()
        )
        for axis, length in enumerate(reversed(size))
    )
    return z[:, :, None, None] * (y[:, None, :, None] * x[:, None, None])


def _features_first(hourglass: Hourglass, num_compressed: int) -> Hourglass:
    """The hourglass for inputs ordered [features of motion 0, 1, ...; heatmaps], in place.

    Published order: per motion, its heatmap and then its features.
    """
    block: Any = hourglass.encoder.down_blocks[0]
    first, last = block.conv, hourglass.decoder.conv
    order = torch.arange(first.in_channels).view(-1, 1 + num_compressed)
    order = torch.cat([order[:, 1:].flatten(), order[:, 0]])
    num_up = last.in_channels - len(order)
    first.weight.copy_(first.weight[:, order])
    last.weight.copy_(last.weight[:, torch.cat([torch.arange(num_up), num_up + order])])
    return hourglass

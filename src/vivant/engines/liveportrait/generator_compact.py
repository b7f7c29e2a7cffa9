"""Compact generation: appearance once per portrait, then flow, warp and paint per frame.

    source --> encoder (1, 1/2, 1/4, 1/8) --> background plate + foreground alpha       (once)
    keypoints --> contour pictures, keypoint flows --> hourglass at 1/4 --> flow --> finer flow at 1/2
    out = a * warped source + b * background plate + c * painted colour,   a + b + c = 1 per pixel

Warped pixels keep identity, the plate fills what the head uncovers without a halo, paint draws what the
source never showed (teeth, closed lids). Legend: B batch, K keypoints, S side of the crop in pixels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config_compact import CompactConfig
from vivant.engines.liveportrait.layers_compact import (
    ConvNormAct,
    Down,
    Residual,
    Up,
    halved,
    keypoint_flows,
    laid_out,
    pixel_grid,
    quiet,
    resize_flow,
    splat,
    warp,
)
from vivant.ops.exact import exactly

CONTOUR_SIGMA_PX = 0.9
"""Width of the drawn contours in pixels of the half-resolution picture."""
NECK_SHARE = 0.7
"""Of the way from chin to lower edge, the part over which stitching brings the flow to rest."""


class Appearance(NamedTuple):
    """What the generator keeps of a source picture."""

    layers: Tensor  # (B, 7, S, S): source RGB, foreground alpha, background plate RGB
    half: Tensor  # (B, C1, S/2, S/2)
    quarter: Tensor  # (B, C2, S/4, S/4)
    eighth: Tensor  # (B, C3, S/8, S/8)


class Generated(NamedTuple):
    """A frame with everything that training looks at."""

    image: Tensor  # (B, 3, S, S) in [0, 1]
    flow: Tensor  # (B, S/2, S/2, 2), crop units
    coarse_flow: Tensor  # (B, S/4, S/4, 2)
    blend: Tensor  # (B, 3, S, S): shares of warped, plate, painted
    painted: Tensor  # (B, 3, S, S)
    warped: Tensor  # (B, 4, S, S): warped source RGB and alpha


def motion_code(rotation: Tensor, expression: Tensor) -> Tensor:
    """(B, 9 + 3K): what the picture planes cannot show, for the bottleneck."""
    return torch.cat([rotation.flatten(1), expression.flatten(1) * 5], 1)


def shoulders_still(kp_source: Tensor, kp_driving: Tensor, size: int) -> Tensor:
    """(B, size, size, 1): 0 down to the lower of the two chins, 1 at the lower edge: the neck gives way between.

    Stitching of the compact set (what M_st of Eq. 5 asks for): its 81 keypoints are all on the head, so no offset
    of theirs can hold a shoulder, but the flow can.
    """
    jaw = list(points.JAW)
    chin = torch.maximum(kp_source[:, jaw, 1].amax(1), kp_driving[:, jaw, 1].amax(1))[:, None]
    rows = pixel_grid(size, kp_driving.device)[:, :1, 1].T
    below = ((rows - chin) / (NECK_SHARE * (1 - chin).clamp(min=0.2))).clamp(0, 1)
    still = below * below * (3 - 2 * below)
    return still[:, :, None, None].expand(-1, -1, size, -1)


class Encoder(nn.Module):
    """Source picture -> Appearance."""

    def __init__(self, config: CompactConfig):
        super().__init__()
        c0, c1, c2, c3 = config.encoder_channels
        self.level_full = ConvNormAct(3, c0)
        self.level_half = ConvNormAct(c0, c1, stride=2)
        self.level_quarter = Down(c1, c2)
        self.level_eighth = Down(c2, c3)
        self.context = nn.Sequential(ConvNormAct(c3, c3 // 2, stride=2), Residual(c3 // 2))
        self.up_eighth = Up(c3 // 2, c3, c3 // 2)
        self.up_quarter = Up(c3 // 2, c2, c1)
        self.up_half = Up(c1, c1, c1)
        self.up_full = Up(c1, c0, c0)
        self.plate = nn.Conv2d(c0, 4, 3, 1, 1)

    def forward(self, image: Tensor) -> Appearance:
        """(B, 3, S, S) in [0, 1] -> Appearance."""
        x = image.to(self.plate.weight.dtype, memory_format=torch.channels_last)
        full = self.level_full(x)
        half = self.level_half(full)
        quarter = self.level_quarter(half)
        eighth = self.level_eighth(quarter)
        up = self.up_eighth(self.context(eighth), eighth)
        up = self.up_half(self.up_quarter(up, quarter), half)
        out = self.plate(self.up_full(up, full)).float()
        alpha = torch.sigmoid(out[:, 3:])
        image = image.float()
        plate = image + alpha * (torch.sigmoid(out[:, :3]) - image)
        layers = torch.cat([image, alpha, plate], 1)
        # As planes: they are sampled and mixed pixel by pixel.
        return Appearance(layers.contiguous(), half, quarter, eighth)


class FlowNetwork(nn.Module):
    """Keypoints and the source at 1/4 -> where each pixel comes from, and how far to believe it."""

    def __init__(self, config: CompactConfig, code_size: int):
        super().__init__()
        self.sigmas = config.flow_sigmas
        channels = config.flow_channels
        num_contours = len(points.CONTOURS)
        num_in = 2 * num_contours + 3 * len(self.sigmas) + 4 * 2 + 2
        self.enter = ConvNormAct(num_in, channels[0])
        self.downs = nn.ModuleList(Down(a, b) for a, b in pairwise(channels))
        self.code = nn.Linear(code_size, channels[-1])
        self.ups = nn.ModuleList(
            Up(channels[i + 1], channels[i], channels[i]) for i in range(len(channels) - 2, -1, -1)
        )
        self.num_mixed = 1 + len(self.sigmas)
        self.leave = nn.Conv2d(channels[0], 3 + self.num_mixed, 3, 1, 1)
        quiet(self.leave, std=0.002)

    def forward(
        self, layers: Tensor, contours: Tensor, kp_source: Tensor, kp_driving: Tensor, code: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """layers (B, 4, n, n), contours (B, 2G, n, n) -> flow (B, n, n, 2), occlusion logit (B, 1, n, n), features."""
        size = layers.shape[-1]
        displacement = (kp_source - kp_driving)[..., :2]
        spread = keypoint_flows(kp_driving[..., :2], displacement, size, self.sigmas)
        flows = [f[:, :2].permute(0, 2, 3, 1) for f in spread]
        grid = pixel_grid(size, layers.device).permute(2, 0, 1).expand(len(layers), -1, -1, -1)
        x = torch.cat([contours, *spread, layers, warp(layers, flows[-1]), grid], 1)
        x = laid_out(x, self.leave.weight.dtype)
        levels = [self.enter(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        y = levels[-1] + self.code(code)[:, :, None, None].to(levels[-1].dtype)
        for up, skip in zip(self.ups, levels[-2::-1], strict=True):
            y = up(y, skip)
        out = self.leave(y).float()
        # Softmax over "stand still" and the keypoint flows, plus a residual: right from the first step on.
        share = torch.softmax(out[:, 3:], 1).permute(0, 2, 3, 1)
        flow = 0.3 * out[:, :2].permute(0, 2, 3, 1)
        for k, candidate in enumerate(flows):
            flow = flow + share[..., k + 1 : k + 2] * candidate
        return flow, out[:, 2:3], y


class CompactGenerator(nn.Module):
    """Appearance and two sets of keypoints -> picture."""

    contour_weights: Tensor

    def __init__(self, config: CompactConfig):
        super().__init__()
        _, e1, e2, e3 = config.encoder_channels
        d0, d1, d2, d3 = config.decoder_channels
        code_size = 2 * (9 + 3 * points.NUM_POINTS)
        contour_weights, self.contour_counts = points.contour_weights()
        self.register_buffer("contour_weights", contour_weights, persistent=False)
        num_contours = len(points.CONTOURS)
        self.encoder = Encoder(config)
        self.code = nn.Sequential(nn.Linear(code_size, 128), nn.ReLU())
        self.flow = FlowNetwork(config, 128)
        f0 = config.flow_channels[0]
        self.fine = Up(f0, e1 + num_contours, 24)
        self.fine_flow = nn.Conv2d(24, 2, 3, 1, 1)
        quiet(self.fine_flow, std=0.002)
        self.flow_features = ConvNormAct(f0, 32, stride=2)
        self.enter = ConvNormAct(e3 + 32, d3)
        self.code_decoder = nn.Linear(128, d3)
        self.blocks = nn.Sequential(*(Residual(d3) for _ in range(config.num_decoder_blocks)))
        self.up_quarter = Up(d3, e2, d2)
        self.block_quarter = Residual(d2)
        self.up_half = Up(d2, e1 + num_contours, d1)
        self.block_half = Residual(d1)
        self.up_full = Up(d1, 7, d0)
        self.block_full = ConvNormAct(d0, d0)
        self.leave = nn.Conv2d(d0, 6, 3, 1, 1)
        quiet(self.leave, std=0.01)

    @exactly
    def contours(self, keypoints: Tensor, size: int) -> Tensor:
        """Contour pictures (B, G, size, size) of keypoints (B, K, 2 or more)."""
        dense = torch.matmul(self.contour_weights, keypoints[..., :2].float())
        return splat(dense, self.contour_counts, size, CONTOUR_SIGMA_PX * 2 / size)

    def forward(
        self,
        appearance: Appearance,
        kp_source: Tensor,
        kp_driving: Tensor,
        code_source: Tensor,
        code_driving: Tensor,
        still: Tensor | None = None,
    ) -> Generated:
        """kp_* (B, K, 3) crop units, code_* (B, 9 + 3K) from `motion_code` -> Generated.

        still: (B, S/2, S/2, 1), how far each pixel stays where it is in the source (see `shoulders_still`).
        """
        dtype = self.leave.weight.dtype
        layers, half = appearance.layers, appearance.half.float()
        code = self.code(torch.cat([code_source, code_driving], 1).to(dtype))

        def lay(x: Tensor) -> Tensor:
            return laid_out(x, dtype)

        contours = self.contours(torch.cat([kp_driving, kp_source]), half.shape[-1]).unflatten(0, (2, -1))
        drawn = lay(contours[0])
        coarse, occlusion, features = self.flow(
            F.avg_pool2d(layers[:, :4], 4),
            halved(contours.transpose(0, 1).flatten(1, 2)),
            kp_source,
            kp_driving,
            code,
        )
        flow = self._refine_flow(coarse, features, half, drawn)
        flow = flow if still is None else flow * (1 - still)

        visible = torch.sigmoid(occlusion)  # (B, 1, S/4, S/4)
        eighth = warp(appearance.eighth, flow) * F.avg_pool2d(visible, 2)
        x = self.enter(torch.cat([lay(eighth), self.flow_features(features)], 1))
        x = self.blocks(x + self.code_decoder(code)[:, :, None, None])
        x = self.block_quarter(self.up_quarter(x, lay(warp(appearance.quarter, flow) * visible)))
        skip = torch.cat([lay(warp(half, flow)), drawn], 1)
        x = self.block_half(self.up_half(x, skip))
        warped = warp(layers[:, :4], flow)
        x = self.up_full(x, lay(torch.cat([warped, layers[:, 4:]], 1)))
        out = (
            self.leave(self.block_full(x)).contiguous().float()
        )  # planes, as the pictures that are mixed below
        painted = torch.sigmoid(4 * out[:, :3])
        # The bias starts the blend near "warped", so that identity is there before painting is learned.
        blend = torch.softmax(out[:, 3:] + out.new_tensor([1.0, 0.0, 0.0])[:, None, None], 1)
        image = blend[:, :1] * warped[:, :3] + blend[:, 1:2] * layers[:, 4:] + blend[:, 2:] * painted
        return Generated(image, flow, coarse, blend, painted, warped)

    def _refine_flow(self, coarse: Tensor, features: Tensor, half: Tensor, drawn: Tensor) -> Tensor:
        """Coarse flow at 1/4 -> flow at 1/2, where lids and lips are more than a pixel high.

        drawn: contours (B, G, S/2, S/2), laid out.
        """
        size = half.shape[-1]
        flow = resize_flow(coarse, size)
        skip = torch.cat([laid_out(warp(half, flow), drawn.dtype), drawn], 1)
        x = self.fine(features, skip)
        return flow + 0.1 * self.fine_flow(x).float().permute(0, 2, 3, 1)

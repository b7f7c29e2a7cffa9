"""G for inference: the same function as `generator`, with everything constant merged and nothing computed twice.

Four exact savings, in order of weight:
1. mlp_shared sees a nearest-upsampled map, so it is a transposed convolution of the small map: 16 taps per small
   cell instead of 36 (twice the size), 25 instead of 144 (four times).
2. At four times the size the hidden map has three distinct rows and columns per small cell, so gamma and beta of
   each of the 16 output phases need 4 to 9 taps: 100 instead of 144.
3. The shortcut is linear after its modulation, so conv_s goes into beta: conv_s(x gamma + beta) needs a beta of
   the narrow width only.
4. Instance norm of a nearest-upsampled map is the upsampled instance norm: computed small, never enlarged.
Legend: B batch, C channels, h w cells of the small map; scale 1, 2 or 4 relative to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.liveportrait.networks.generator import (
    NORM_EPS,
    SLOPE,
    Generator,
    ModulatedBlock,
    Modulation,
    SpectralConv2d,
)
from vivant.ops.folding import bias_of, four_times_row_taps, upsampled_weight, with_weights

# Padding that makes a stride-3 convolution over stored rows start at the first row that phase 0..3 reads (3i - 1,
# 3i, 3i + 1, 3i + 1). Padding 2 starts one cell early; the first output is then dropped.
_PHASE_PADDING = (1, 0, 2, 2)


@dataclass
class Phase:
    """Modulation of the cells [row::step, column::step] of a map."""

    row: int
    column: int
    step: int
    gain: Tensor
    """(B, C, H / step, W / step): 1 + gamma."""
    shift: Tensor
    """The same shape, or the width of the shortcut: beta."""

    def of(self, x: Tensor, *, half_size: bool = False) -> Tensor:
        """The view of x that this phase modulates; x may be stored at half the size (nearest)."""
        divide = 2 if half_size else 1
        step = self.step // divide
        return x[:, :, self.row // divide :: step, self.column // divide :: step]


class FoldedModulation(nn.Module):
    """gain and shift maps of one SPADE normalisation, phase by phase."""

    def __init__(self, plain: Modulation, scale: int, shortcut: SpectralConv2d | None = None):
        super().__init__()
        self.scale = scale
        shared: Any = plain.mlp_shared[0]
        self.hidden = _hidden_convolution(shared, scale)
        gamma, beta = plain.mlp_gamma, plain.mlp_beta
        shift_weight: Tensor = beta.weight
        shift_bias = bias_of(beta)
        if shortcut is not None:
            mix = shortcut.weight()[:, :, 0, 0]
            shift_weight, shift_bias = torch.einsum("oc,ciyx->oiyx", mix, beta.weight), mix @ bias_of(beta)
        self.widths = [len(gamma.weight), len(shift_weight)]
        weight = torch.cat([gamma.weight, shift_weight])
        bias = torch.cat([bias_of(gamma) + 1, shift_bias])
        self.maps = nn.ModuleList()
        if scale < 4:
            self.maps.append(_conv(weight, bias, padding=(1, 1)))
            return
        for row in range(4):
            for column in range(4):
                taps = four_times_row_taps(four_times_row_taps(weight, row, 2), column, 3)
                padding = (_PHASE_PADDING[row], _PHASE_PADDING[column])
                self.maps.append(_conv(taps, bias, padding=padding, stride=3))

    def forward(self, seg: Tensor) -> Iterator[Phase]:
        """seg (B, C', h, w) -> the phases of the map at `scale` times that size."""
        hidden = self.hidden(seg).relu_()
        if self.scale < 4:
            gain, shift = self.maps[0](hidden).split(self.widths, 1)
            for row in range(self.scale):
                for column in range(self.scale):
                    step = slice(row, None, self.scale), slice(column, None, self.scale)
                    yield Phase(row, column, self.scale, gain[:, :, *step], shift[:, :, *step])
            return
        for index, maps in enumerate(self.maps):
            row, column = divmod(index, 4)
            both = maps(hidden)[:, :, int(_PHASE_PADDING[row] == 2) :, int(_PHASE_PADDING[column] == 2) :]
            gain, shift = both.split(self.widths, 1)
            yield Phase(row, column, 4, gain, shift)


class FoldedBlock(nn.Module):
    """ModulatedBlock at `scale`. Above 1 it has a learned shortcut and its input is stored at half the size."""

    def __init__(self, plain: ModulatedBlock, scale: int):
        super().__init__()
        self.scale = scale
        self.norm_0 = FoldedModulation(plain.norm_0, scale)
        self.norm_1 = FoldedModulation(plain.norm_1, scale)
        self.conv_0 = _conv(plain.conv_0.weight(), plain.conv_0.bias, padding=(1, 1))
        self.conv_1 = _conv(plain.conv_1.weight(), plain.conv_1.bias, padding=(1, 1))
        if scale > 1:
            self.norm_s = FoldedModulation(plain.norm_s, scale, plain.conv_s)
            self.conv_s = _conv(plain.conv_s.weight(), None, padding=(0, 0))

    def forward(self, x: Tensor, seg: Tensor) -> Tensor:
        normed = instance_norm(x)
        half_size = self.scale > 1
        dx = self.conv_0(_modulated(normed, self.norm_0(seg), 2 if half_size else 1))
        dx = self.conv_1(_modulated(instance_norm(dx), self.norm_1(seg), 1))
        if not half_size:
            return dx.add_(x)
        for phase in self.norm_s(seg):
            part = self.conv_s(phase.of(normed, half_size=True) * phase.gain)
            phase.of(dx).add_(part.add_(phase.shift))
        return dx


class FoldedGenerator(nn.Module):
    """The folded form of a Generator."""

    def __init__(self, plain: Generator):
        super().__init__()
        self.fc = plain.fc
        self.middle = nn.ModuleList(FoldedBlock(block, 1) for block in plain.middle_blocks())
        self.up_0 = FoldedBlock(plain.up_0, 2)
        self.up_1 = FoldedBlock(plain.up_1, 4)
        self.conv_img = plain.conv_img[0]

    def forward(self, seg: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w) in [0, 1], float32."""
        seg = seg.to(self.fc.weight.dtype, memory_format=torch.channels_last)
        x = self.fc(seg)
        for block in self.middle:
            x = block(x, seg)
        x = self.up_1(self.up_0(x, seg), seg)
        return F.pixel_shuffle(self.conv_img(F.leaky_relu_(x, SLOPE)).float(), 2).sigmoid_()


def instance_norm(x: Tensor) -> Tensor:
    """Zero mean and unit variance per sample and channel; statistics in float32 whatever x is.

    Batch norm of one sample is instance norm, and unlike F.instance_norm it keeps the channels-last layout.
    """
    parts = [F.batch_norm(part, None, None, training=True, eps=NORM_EPS) for part in x.split(1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _modulated(normed: Tensor, phases: Iterator[Phase], times: int) -> Tensor:
    """lrelu(normed * gain + shift); normed is stored `times` smaller than the result."""
    batch, channels, height, width = normed.shape
    size = (batch, channels, height * times, width * times)
    out = torch.empty(size, dtype=normed.dtype, device=normed.device, memory_format=torch.channels_last)
    for phase in phases:
        view = phase.of(normed, half_size=times == 2)
        part = F.leaky_relu_(torch.addcmul(phase.shift, view, phase.gain), SLOPE)
        if phase.step == 1:
            return part
        phase.of(out).copy_(part)
    return out


def _hidden_convolution(plain: nn.Conv2d, scale: int) -> nn.Module:
    if scale == 1:
        return plain
    weight = upsampled_weight(plain.weight, scale)
    num_in, num_out, kernel = weight.shape[:3]
    conv = nn.ConvTranspose2d(num_in, num_out, kernel, {2: 2, 4: 3}[scale], padding=1, device="meta")
    return with_weights(conv, weight, plain.bias)


def _conv(weight: Tensor, bias: Tensor | None, *, padding: tuple[int, int], stride: int = 1) -> nn.Conv2d:
    num_out, num_in, height, width = weight.shape
    conv = nn.Conv2d(num_in, num_out, (height, width), stride, padding, bias=bias is not None, device="meta")
    return with_weights(conv, weight, bias)

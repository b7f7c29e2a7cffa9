"""A large 3-D convolution over a shallow volume, as 2-D convolutions in the Fourier domain along depth.

Depth 16 under 7 taps costs about 100 slice-by-slice 2-D convolutions. A discrete Fourier transform of length
N = 19 (long enough that nothing wraps around) makes each depth frequency independent: one real and nine complex
2-D convolutions, together the cost of 37. The transform is orthogonal, so rounding is not amplified.
Legend: B batch, C input channels, O output channels, D depth cells, h w cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vivant.ops.folding import bias_of, with_weights


class DepthFourierConv(nn.Module):
    """conv (kernel k x k x k, same padding) for volumes of the given depth."""

    def __init__(self, conv: nn.Conv3d, depth: int):
        super().__init__()
        kernel = conv.kernel_size[0]
        length = depth + kernel // 2
        length += 1 - length % 2  # odd, so that only frequency 0 is real
        device = conv.weight.device
        self.register_buffer("analysis", _basis(length, torch.arange(depth)).to(device), persistent=False)
        self.bias = nn.Parameter(bias_of(conv), requires_grad=False)
        self.out_channels = conv.out_channels
        # W_f = sum_o w_o exp(2 pi i f o / N) over depth offsets o: correlation, not convolution.
        taps = _basis(length, torch.arange(kernel) - kernel // 2).to(device) * math.sqrt(length)
        spectrum = torch.einsum("fz,oczyx->focyx", taps, conv.weight)
        spectrum[1:] /= math.sqrt(2)
        self.frequencies = nn.ModuleList([_conv(spectrum[0], kernel)])
        for cosine, sine in zip(spectrum[1::2], spectrum[2::2], strict=True):
            # X = C - iS, W = Wc + iWs: Re(X W) = C Wc + S Ws and Im(X W) = C Ws - S Wc. With -Im, the rows of
            # `analysis` also turn the result back: y_d = sum of rows times (Re, -Im).
            real = torch.cat([cosine, sine], 1)
            minus_imaginary = torch.cat([-sine, cosine], 1)
            self.frequencies.append(_conv(torch.cat([real, minus_imaginary]), kernel))

    analysis: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, D, h, w) -> (B, D, h, w, O) float32."""
        batch, channels, depth, height, width = x.shape
        rows = x.permute(0, 2, 3, 4, 1).reshape(batch, depth, -1)
        waves = (self.analysis.to(x.dtype) @ rows).view(batch, -1, height, width, channels)
        parts = [waves[:, 0], *(torch.cat(pair, -1) for pair in _pairs(waves))]
        answers = [conv(part.permute(0, 3, 1, 2)) for conv, part in zip(self.frequencies, parts, strict=True)]
        flat = torch.stack(
            [part for answer in answers for part in answer.permute(0, 2, 3, 1).split(self.out_channels, -1)],
            1,
        )
        out = self.analysis.mT @ flat.float().flatten(2)
        return out.view(batch, depth, height, width, -1) + self.bias


def _pairs(waves: Tensor) -> list[tuple[Tensor, Tensor]]:
    rows = waves.unbind(1)
    return list(zip(rows[1::2], rows[2::2], strict=True))


def _basis(length: int, positions: Tensor) -> Tensor:
    """Orthonormal real Fourier basis at integer positions: rows 1, then cos and sin of each frequency."""
    angle = 2 * math.pi / length * torch.arange(1, length // 2 + 1)[:, None] * positions
    waves = torch.stack([angle.cos(), angle.sin()], 1).flatten(0, 1) * math.sqrt(2 / length)
    return torch.cat([torch.full((1, len(positions)), 1 / math.sqrt(length)), waves])


def _conv(weight: Tensor, kernel: int) -> nn.Conv2d:
    num_out, num_in = weight.shape[:2]
    conv = nn.Conv2d(num_in, num_out, kernel, padding=kernel // 2, bias=False, device="meta")
    return with_weights(conv, weight, None)

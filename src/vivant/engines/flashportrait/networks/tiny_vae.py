"""Decoder of TAEHV (tiny autoencoder for video, layout taew2_1): latents to pictures, coarser and much faster.

Each block sees its frame and the frame before it, so that a stream is decoded piece by piece. Layer numbers are those
of the published file. Legend: L latents, T frames, Z latent channels, C channels.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.flashportrait.caches import TinyVaeCache
from vivant.engines.flashportrait.config_networks import TinyVaeConfig

NUM_WARM_UP_FRAMES = 3
"""The first latent is one frame: the first three of its four are dropped."""
LATENT_LIMIT = 3.0


class TinyVae(nn.Module):
    """Normalised latents to pictures."""

    def __init__(self, config: TinyVaeConfig):
        super().__init__()
        widths = config.decoder_channels
        layers: list[nn.Module] = [
            SoftClamp(),
            nn.Conv2d(config.latent_channels, widths[0], 3, padding=1),
            nn.ReLU(),
        ]
        for index, (wide, narrow) in enumerate(pairwise(widths)):
            layers += [MemoryBlock(wide) for _ in range(3)]
            layers += [
                nn.Upsample(scale_factor=2),
                TimeGrow(wide, 1 if index == 0 else 2),
                nn.Conv2d(wide, narrow, 3, padding=1, bias=False),
            ]
        layers += [nn.ReLU(), nn.Conv2d(widths[-1], 3, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def decode_piece(self, latents: Tensor, cache: TinyVaeCache) -> Tensor:
        """The next latents (1, Z, L, h, w) of a stream -> frames (1, 3, T, H, W) in [-1, 1]; updates the cache."""
        return torch.cat([self._decode(latent, cache) for latent in latents.split(1, dim=2)], 2)

    def _decode(self, latent: Tensor, cache: TinyVaeCache) -> Tensor:
        starts = not cache.past
        x = latent[0].transpose(0, 1)
        past: list[Tensor] = []
        for layer in self.decoder:
            if isinstance(layer, MemoryBlock):
                before = torch.zeros_like(x[:1]) if starts else cache.past[len(past)].type_as(x)
                past.append(x[-1:].clone())
                x = layer(x, torch.cat([before, x[:-1]]))
            else:
                x = layer(x)
        cache.past = past
        frames = x[NUM_WARM_UP_FRAMES:] if starts else x
        return frames.transpose(0, 1)[None].float().clamp(0, 1) * 2 - 1


class SoftClamp(nn.Module):
    """Latents between -3 and 3."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / LATENT_LIMIT) * LATENT_LIMIT


class MemoryBlock(nn.Module):
    """A residual block that also sees the frame before."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """Frames (T, C, H, W) and the frame before each."""
        return F.relu(self.conv(torch.cat([x, past], 1)) + x)


class TimeGrow(nn.Module):
    """One frame becomes `factor` frames."""

    def __init__(self, channels: int, factor: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels * factor, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).reshape(-1, x.shape[1], *x.shape[2:])

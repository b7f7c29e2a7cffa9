"""The three networks of the family in one module, with the scale of the latents between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vivant.engines.refvae.config import Config
from vivant.engines.refvae.generator import Generator
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.sync_expert import audio_tower
from vivant.engines.refvae.vae import References, VideoVae


class Networks(nn.Module):
    """VAE, generator and audio tower."""

    narrow_linear = True
    """Read by vivant.runtime.precision: autocast would cast 4 GB of weights anew in each of the steps of a block."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: Config):
        super().__init__()
        self.vae = VideoVae(config.vae)
        self.generator = Generator(config.generator)
        self.audio = audio_tower(config.audio_widths)
        # Over the training set, per channel: the generator works on latents of mean 0 and spread 1.
        self.register_buffer("latent_mean", torch.zeros(config.vae.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.vae.latent_channels))

    def standardised(self, latents: Tensor) -> Tensor:
        """VAE latents (B, Z, L, h, w) -> generator latents (B, L, Z, h, w)."""
        return ((latents.movedim(1, -1) - self.latent_mean) / self.latent_std).movedim(-1, 2)

    def scaled(self, spread: Tensor) -> Tensor:
        """Standard deviations (B, Z, L, h, w) of VAE latents -> those of generator latents (B, L, Z, h, w)."""
        return (spread.movedim(1, -1) / self.latent_std).movedim(-1, 2)

    def decode(self, latents: Tensor, references: References | None, cache: TemporalCache | None) -> Tensor:
        """Generator latents (B, L, Z, h, w) -> video (B, 3, T, H, W) in [-1, 1]."""
        wide = latents.movedim(2, -1) * self.latent_std + self.latent_mean
        return self.vae.decode(wide.movedim(-1, 1), references, cache)

"""The Wan2.1 video VAE (diffusers), encoding and decoding a stream piece by piece with the caches as arguments.

diffusers keeps these caches on the module, for whole clips; its encoder and decoder take them as arguments, which is
all that is used here. Legend: L latents, T frames, Z latent channels.
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from torch import Tensor, nn

from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import TIME_FACTOR
from vivant.engines.flashportrait.config_networks import VaeConfig
from vivant.ops.convolution import conv3d

_REPEAT = "Rep"
"""diffusers' word for: the first frame went through here, and nothing else."""


class CausalConv3d(WanCausalConv3d):
    """diffusers', with a CPU's fast kernel for one clip, and a GPU's for few channels."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.stride == (1, 1, 1):
            return conv3d(x, weight, bias)
        return super()._conv_forward(x, weight, bias)


class VideoVae(AutoencoderKLWan):
    """Pixels in [-1, 1] to latents of mean 0 and spread 1, and back."""

    def __init__(self, config: VaeConfig):
        super().__init__(
            base_dim=config.base_channels,
            z_dim=config.latent_channels,
            dim_mult=list(config.channel_multipliers),
            num_res_blocks=config.num_residual_blocks,
            latents_mean=list(config.latent_mean),
            latents_std=list(config.latent_std),
        )
        for module in self.modules():
            if type(module) is WanCausalConv3d:
                module.__class__ = CausalConv3d  # built by diffusers, which asks nobody for the class
        shape = (1, -1, 1, 1, 1)
        self.register_buffer("latent_mean", torch.tensor(config.latent_mean).view(shape), persistent=False)
        self.register_buffer("latent_std", torch.tensor(config.latent_std).view(shape), persistent=False)

    def encode_piece(self, frames: Tensor, cache: VaeCache) -> Tensor:
        """The next frames (1, 3, T, H, W) -> latents (1, Z, L, h, w), the mode of the posterior.

        T is 1 + 4 k at the start of a stream and 4 k later.
        """
        sizes = [1] if cache.is_empty else []
        sizes += [TIME_FACTOR] * ((frames.shape[2] - len(sizes)) // TIME_FACTOR)
        moments = [self.quant_conv(_step(self.encoder, piece, cache)) for piece in frames.split(sizes, dim=2)]
        mode = torch.cat(moments, 2).chunk(2, dim=1)[0].float()
        return (mode - self.latent_mean) / self.latent_std

    def encode_clips(self, frames: Tensor) -> Tensor:
        """Whole clips (B, 3, 1 + 4 k, H, W) -> latents (B, Z, 1 + k, h, w): as piece by piece, in two steps and with
        the memory for all frames at once. For training."""
        cache = VaeCache()
        parts = [part for part in (frames[:, :, :1], frames[:, :, 1:]) if part.shape[2]]
        moments = [self.quant_conv(_step(self.encoder, part, cache)) for part in parts]
        mode = torch.cat(moments, 2).chunk(2, dim=1)[0].float()
        return (mode - self.latent_mean) / self.latent_std

    def decode_clips(self, latents: Tensor) -> Tensor:
        """Whole clips (B, Z, L, h, w) -> frames (B, 3, 4 L - 3, H, W), beyond [-1, 1] too, so that gradients pass."""
        wide, cache = latents.float() * self.latent_std + self.latent_mean, VaeCache()
        parts = [part for part in (wide[:, :, :1], wide[:, :, 1:]) if part.shape[2]]
        pieces = [_step(self.decoder, self.post_quant_conv(part), cache) for part in parts]
        return torch.cat(pieces, 2).float()

    def decode_piece(self, latents: Tensor, cache: VaeCache) -> Tensor:
        """The next latents (1, Z, L, h, w) -> frames (1, 3, T, H, W); T = 4 L, at the start of a stream 3 fewer."""
        wide = latents.float() * self.latent_std + self.latent_mean
        pieces = [_step(self.decoder, self.post_quant_conv(latent), cache) for latent in wide.split(1, dim=2)]
        return torch.cat(pieces, 2).float().clamp(-1, 1)


def _step(network: nn.Module, x: Tensor, cache: VaeCache) -> Tensor:
    """One frame, four frames or one latent through the encoder or the decoder."""
    if cache.is_empty:
        count = sum(isinstance(module, WanCausalConv3d) for module in network.modules())
        cache.features, cache.repeats = [None] * count, [False] * count
    marks = zip(cache.features, cache.repeats, strict=True)
    slots = [_REPEAT if repeat else feature for feature, repeat in marks]
    out = network(x, feat_cache=slots, feat_idx=[0])
    cache.repeats = [isinstance(slot, str) for slot in slots]
    cache.features = [None if isinstance(slot, str) else slot for slot in slots]
    return out

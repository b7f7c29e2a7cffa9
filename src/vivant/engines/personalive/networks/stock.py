"""Networks that are not ours to write: Stable Diffusion's VAE, TAESD and CLIP, built with random weights.

The libraries take seconds to import, so nothing is imported before networks are built.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vivant.engines.personalive.config_networks import (
    STABLE_CHANNELS,
    ImageEncoderConfig,
    TinyDecoderConfig,
    VaeConfig,
)
from vivant.errors import SetupError
from vivant.ops import fused
from vivant.ops.measured import convolved, rectified


def _imported(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("diffusers", "transformers"):
            raise
        raise SetupError(
            f"personalive needs {error.name.split('.')[0]}; run `python -m pip install 'vivant[diffusion]'`."
        ) from error


def build_vae(config: VaeConfig) -> Any:
    """AutoencoderKL: `.encode(x).latent_dist.mean`, `.decode(z).sample`; pictures in [-1, 1]."""
    module = _imported("diffusers.models.autoencoders.autoencoder_kl")
    scales = len(config.channels)
    return module.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * scales,
        up_block_types=("UpDecoderBlock2D",) * scales,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        latent_channels=STABLE_CHANNELS,
        norm_num_groups=config.norm_groups,
    )


def decode(vae: Any, latents: Tensor) -> Tensor:
    """As `vae.decode(latents).sample`, step by step, so that steps may be taken at once."""
    decoder = vae.decoder
    x = convolved(latents if vae.post_quant_conv is None else vae.post_quant_conv(latents), decoder.conv_in)
    first, second = decoder.mid_block.resnets
    x = _resnet(second, _attended(decoder.mid_block.attentions[0], _resnet(first, x)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            x = _resnet(resnet, x)
        for upsampler in block.upsamplers or ():
            x = convolved(fused.doubled(x), upsampler.conv)
    return convolved(fused.group_norm(x, decoder.conv_norm_out, silu=True), decoder.conv_out)


def _resnet(block: Any, x: Tensor) -> Tensor:
    y = convolved(fused.group_norm(x, block.norm1, silu=True), block.conv1)
    short = x if block.conv_shortcut is None else convolved(x, block.conv_shortcut)
    return convolved(fused.group_norm(y, block.norm2, silu=True), block.conv2, short)


def _attended(attention: Any, x: Tensor) -> Tensor:
    """One head as wide as the features: too wide for kernels that never write down who looks at whom."""
    tokens = fused.group_norm(x, attention.group_norm).flatten(2).transpose(1, 2)
    query, key, value = (layer(tokens) for layer in (attention.to_q, attention.to_k, attention.to_v))
    agree = torch.bmm(query * query.shape[-1] ** -0.5, key.transpose(1, 2))
    seen = attention.to_out[0](torch.bmm(agree.softmax(-1), value))
    return x + seen.transpose(1, 2).unflatten(2, x.shape[2:])


def build_tiny_decoder(config: TinyDecoderConfig) -> Any:
    """The decoder of AutoencoderTiny: scaled latents -> pictures in [-1, 1]. Its encoder is not needed."""
    module = _imported("diffusers.models.autoencoders.autoencoder_tiny")
    return module.DecoderTiny(
        in_channels=STABLE_CHANNELS,
        out_channels=3,
        num_blocks=config.num_blocks,
        block_out_channels=(config.channels,) * len(config.num_blocks),
        upsampling_scaling_factor=2,
        act_fn="relu",
        upsample_fn="nearest",
    )


def decode_tiny(decoder: Any, latents: Tensor) -> Tensor:
    """As `decoder(latents)`, step by step."""
    if not fused.usable(latents):
        return decoder(latents)
    x = torch.tanh(latents / 3) * 3
    for layer in decoder.layers:
        if isinstance(layer, nn.Conv2d):
            x = convolved(x, layer)
        elif isinstance(layer, nn.Upsample):
            x = fused.doubled(x)
        elif hasattr(layer, "fuse"):
            first, _, second, _, third = layer.conv
            x = rectified(rectified(rectified(x, first), second), third, layer.skip(x))
        else:
            x = layer(x)
    return x * 2 - 1


def build_image_encoder(config: ImageEncoderConfig, projected: int) -> Any:
    """CLIPVisionModelWithProjection: `(pixel_values=...).image_embeds` (B, projected)."""
    module = _imported("transformers.models.clip.modeling_clip")
    sizes = _imported("transformers.models.clip.configuration_clip")
    return module.CLIPVisionModelWithProjection(
        sizes.CLIPVisionConfig(
            image_size=config.image_size,
            patch_size=config.patch_size,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            projection_dim=projected,
        )
    )

"""One call of every method of the networks, with random numbers, for exporting (Engine.network_calls)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vivant.engines.personalive.config import LATENT_FACTOR, Config
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.unet import Conditions, joined


def network_calls(networks: Networks, config: Config, seed: int) -> Mapping[str, tuple[Any, ...]]:
    """Arguments by method, for square frames. References: two sets, or three where the seed is odd."""
    generator = torch.Generator().manual_seed(seed)

    def picture(side: int) -> Tensor:
        return torch.rand(1, 3, side, side, generator=generator)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    cells, frames = config.image_size // LATENT_FACTOR, config.window_frames
    latent = noise(1, config.unet.latent_channels, cells, cells)
    token = noise(1, 1, config.unet.identity_channels)
    conditions = Conditions(
        identity=networks.denoiser.embed_identity(token),
        references=joined([networks.references(noise(*latent.shape), token) for _ in range(2 + seed % 2)]),
        motion=noise(1, frames, config.motion_encoder.num_tokens, config.unet.motion_channels),
        pose=noise(1, frames, config.unet.channels[0], cells, cells),
        known=noise(1, frames, *latent.shape[1:]) if config.draws_differences else None,
    )
    timesteps = torch.tensor(config.timesteps).repeat_interleave(config.chunk_frames)[None]
    calls: dict[str, tuple[Any, ...]] = {
        "encode": (picture(config.image_size),),
        "square_token": (picture(config.image_encoder.image_size),),
        "motion_tokens": (picture(config.motion_encoder.image_size),),
        "pose_features": (picture(config.image_size),),
        "denoiser.embed_identity": (token,),
        "references": (latent, token),
        "denoise": (noise(1, frames, *latent.shape[1:]), timesteps, conditions),
        "decode": (latent,),
    }
    if config.motion_extractor is not None:
        calls["motion_extractor.forward"] = (picture(config.motion_extractor.image_size),)
    if config.has_tiny_decoder:
        calls["decode_tiny"] = (latent,)
    return calls

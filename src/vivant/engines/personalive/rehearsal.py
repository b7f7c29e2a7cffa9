"""What the family does from reference to picture, for counting memory (vivant.runtime.footprint)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vivant.engines.personalive.config import LATENT_FACTOR, Config, Options
from vivant.engines.personalive.networks.unet import Conditions, joined
from vivant.runtime.footprint import Part, Rehearsal, made_bytes


def rehearse(networks: nn.Module, config: Config, options: Options) -> Rehearsal:
    """The parts at the sizes of a config and under a user's options, with as many keyframes as these allow."""
    own: Any = networks
    side, face = config.image_size, config.motion_encoder.image_size
    cells, frames = side // LATENT_FACTOR, config.window_frames
    latent, token = (
        torch.zeros(1, config.unet.latent_channels, cells, cells),
        torch.zeros(1, 1, config.unet.identity_channels),
    )
    decode = own.decode_tiny if options.decoder == "tiny" and config.has_tiny_decoder else own.decode
    identity, seen = own.denoiser.embed_identity(token), own.reference_tokens(latent, token)
    references = own.denoiser.project_references(seen)
    num_sets = 1 if options.keyframes == "off" else 1 + options.max_keyframes

    def denoise() -> Tensor:
        conditions = Conditions(
            identity=identity,
            references=joined([references] * num_sets),
            motion=torch.zeros(1, frames, config.motion_encoder.num_tokens, config.unet.motion_channels),
            pose=torch.zeros(1, frames, config.unet.channels[0], cells, cells),
            known=torch.zeros(1, frames, *latent.shape[1:]) if config.draws_differences else None,
        )
        latents = latent.expand(frames, -1, -1, -1)[None]
        return own.denoise(latents, torch.zeros(1, frames), conditions)

    chunk, picture = config.chunk_frames, torch.zeros(1, 3, side, side)
    parts = (
        Part("encoding the reference", "vae", lambda: own.encode(picture)),
        Part("seeing the reference", "image_encoder", lambda: own.identity_token(picture)),
        Part("reading the reference", "reference_unet", lambda: own.reference_tokens(latent, token)),
        Part("denoising", "denoiser", denoise),
        Part("reading faces", "motion_encoder", lambda: own.motion_tokens(torch.zeros(chunk, 3, face, face))),
        Part("reading poses", "pose_guider", lambda: own.pose_features(torch.zeros(chunk, 3, side, side))),
        Part(
            "decoding",
            "vae" if decode == own.decode or own.solved else "tiny_decoder",
            lambda: decode(latent.expand(chunk, -1, -1, -1)),
        ),
    )
    return Rehearsal(parts, num_sets * made_bytes(references))

"""All networks of the family behind a few methods. Plain PyTorch, single device, no state, no files.

    reference --VAE--> latent --R--> tokens --+--K, V of D--> references --+
        +------CLIP--> identity --------------+                            v
    driving --M--> pose --drawn--> E_p --> pose features ----------------> D --> epsilon --> latents --VAE--> frames
        +----crop--> E_m --> motion tokens ------------------------------> D

VAE, TAESD and CLIP are those of diffusers and transformers (the extra `diffusion`), imported when networks are built;
a VAE that is solved is ours (block_vae.py), and D is then told the latents of the bent portrait beside the noisy ones.
Nothing is ever fetched: weights come from our checkpoints.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.personalive.config import Config
from vivant.engines.personalive.config_networks import NUM_ANGLE_BINS, NUM_KEYPOINTS, BlockVaeConfig
from vivant.engines.personalive.networks.block_vae import BlockVae
from vivant.engines.personalive.networks.layers import KeysValues
from vivant.engines.personalive.networks.motion_encoder import MotionEncoder
from vivant.engines.personalive.networks.pose_guider import PoseGuider
from vivant.engines.personalive.networks.stock import (
    build_image_encoder,
    build_tiny_decoder,
    build_vae,
    decode,
    decode_tiny,
)
from vivant.engines.personalive.networks.unet import Conditions, Denoiser, ReferenceUnet
from vivant.face.motion_extractor import HeadOutputs, MotionExtractor
from vivant.ops.constants import constant

LATENT_SCALE = 0.18215
"""Of Stable Diffusion: what the VAE's latents are multiplied with."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Networks(nn.Module):
    """Everything that a checkpoint of this family holds."""

    narrow_linear = True
    """Read by vivant.runtime.precision: most weights are in linear layers."""
    export_by_tracing = True
    """Read by vivant.runtime.onnx: the UNets have thousands of operations."""

    def __init__(self, config: Config):
        super().__init__()
        self.reference_unet = ReferenceUnet(config.unet)
        self.denoiser = Denoiser(config.unet)
        self.motion_encoder = MotionEncoder(config.motion_encoder)
        self.pose_guider = PoseGuider(config.pose_channels, config.unet.channels[0])
        self.motion_extractor: MotionExtractor | None = None
        if config.motion_extractor is not None:
            self._extractor_size = config.motion_extractor.image_size
            self.motion_extractor = MotionExtractor(
                config.motion_extractor.channels, NUM_KEYPOINTS, NUM_ANGLE_BINS
            )
        self.solved = isinstance(config.vae, BlockVaeConfig)
        self.vae: Any = (
            BlockVae(config.vae) if isinstance(config.vae, BlockVaeConfig) else build_vae(config.vae)
        )
        self.image_encoder: Any = build_image_encoder(config.image_encoder, config.unet.identity_channels)
        self.tiny_decoder: Any = None
        if config.tiny_decoder is not None:
            self.tiny_decoder = build_tiny_decoder(config.tiny_decoder)
        self._clip_size = config.image_encoder.image_size

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latents (B, Z, H / 8, W / 8): the posterior's mean, scaled."""
        if self.solved:
            return self.vae.encode(pictures * 2 - 1)
        return self.vae.encode(pictures * 2 - 1).latent_dist.mean * LATENT_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        """(T, Z, h, w) -> (T, 3, 8 h, 8 w), in [0, 1] but for overshoot."""
        if self.solved:
            return self.vae.decode(latents) / 2 + 0.5
        return decode(self.vae, latents / LATENT_SCALE) / 2 + 0.5

    def decode_tiny(self, latents: Tensor) -> Tensor:
        """As `decode`, by TAESD, which takes scaled latents; or by the components of a solved VAE, unmended."""
        if self.solved:
            return self.vae.linear(latents) / 2 + 0.5
        return decode_tiny(self.tiny_decoder, latents) / 2 + 0.5

    def identity_token(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 1, D). The short side is fitted and the middle is cut out, as CLIP expects."""
        height, width = picture.shape[2:]
        side, short = self._clip_size, min(height, width)
        size = (round(height * side / short), round(width * side / short))
        fitted = F.interpolate(picture, size=size, mode="bicubic", align_corners=False, antialias=True)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        return self.square_token(fitted[:, :, top : top + side, left : left + side].clamp(0, 1))

    def square_token(self, square: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1], of the image encoder's size -> (B, 1, D)."""
        mean, std = (constant(v, square.device).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
        return self.image_encoder(pixel_values=(square - mean) / std).image_embeds[:, None]

    def references(self, latents: Tensor, identity_token: Tensor) -> list[KeysValues]:
        """A clean latent (B, Z, h, w) and (B, 1, D) -> keys and values that the denoiser looks at, per attention."""
        return self.denoiser.project_references(self.reference_tokens(latents, identity_token))

    def reference_tokens(
        self, latents: Tensor, identity_token: Tensor, *, recompute: bool = False
    ) -> list[Tensor]:
        """The same before the denoiser's own projections: R's tokens, per attention."""
        return self.reference_unet(self.told(latents), identity_token, recompute=recompute)

    def told(self, latents: Tensor) -> Tensor:
        """Clean latents (..., Z, h, w), as a network is told them."""
        return self.vae.told(latents) if self.solved else latents

    def denoise(self, latents: Tensor, timesteps: Tensor, conditions: Conditions) -> Tensor:
        """(B, F, Z, h, w), timesteps (B, F) -> epsilon, or what is clean (UnetConfig.answers)."""
        if conditions.known is not None:
            latents = torch.cat([latents, self.told(conditions.known).to(latents)], 2)
        return self.denoiser(latents, timesteps, conditions)

    def motion_tokens(self, faces: Tensor) -> Tensor:
        """Crops (T, 3, S, S) in [0, 1] -> (T, L, C)."""
        return self.motion_encoder(faces * 2 - 1)

    def pose_features(self, drawing: Tensor) -> Tensor:
        """(T, 3, H, W) in [0, 1] -> (T, C, H / 8, W / 8)."""
        return self.pose_guider(drawing)

    def head(self, frames: Tensor) -> HeadOutputs:
        """(T, 3, H, W) in [0, 1] -> what the motion extractor sees. Resized as published: bilinear, not smoothed."""
        assert self.motion_extractor is not None
        size = (self._extractor_size, self._extractor_size)
        if frames.shape[2:] != size:
            frames = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        return self.motion_extractor(frames)

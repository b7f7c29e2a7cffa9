"""Sizes of the networks. No defaults: a checkpoint says what it is."""

from __future__ import annotations

from dataclasses import dataclass

NUM_SCALES = 4
"""Latent grids that the UNets work on: 1, 1/2, 1/4 and 1/8. Part of the checkpoint format."""
HOURGLASS_DEPTH = 4
LATENT_CHANNELS = 4
NUM_KEYPOINTS = 21
NUM_ANGLE_BINS = 66


@dataclass(frozen=True, kw_only=True)
class UnetConfig:
    """Widths that the reference UNet and the denoiser share; they exchange tokens, so they must."""

    channels: tuple[int, int, int, int]
    """At 1, 1/2, 1/4 and 1/8 of the latent (320, 640, 1280, 1280)."""
    num_heads: int
    """Of every attention (8)."""
    norm_groups: int
    """Of every GroupNorm (32)."""
    identity_channels: int
    """Width of the image encoder's token (768)."""
    motion_channels: int
    """Width of a motion token (16)."""
    max_frames: int
    """Slots that the temporal code knows (32): the longest window."""

    def __post_init__(self) -> None:
        for width in self.channels:
            if width % self.norm_groups or width % self.num_heads:
                raise ValueError(
                    f"channels are multiples of norm_groups {self.norm_groups} and num_heads {self.num_heads}, "
                    f"got {width}"
                )


@dataclass(frozen=True, kw_only=True)
class MotionEncoderConfig:
    """E_m, the face's motion in a few tokens."""

    image_size: int
    """Side in pixels of the face crop (224); a multiple of 32."""
    channels: tuple[int, int, int]
    """After the stem, and after two enlargements (64, 128, 256)."""
    token_channels: int
    """Width of the three attention blocks (1024)."""
    num_heads: int
    norm_groups: int
    num_heatmaps: int
    """Maps before the last convolution (68)."""
    num_tokens: int
    """Motion tokens of a frame (32)."""
    motion_channels: int
    """Width of a motion token (16)."""

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"the motion encoder's image_size is a multiple of 32, got {self.image_size}")
        if self.token_channels % 64 or self.token_channels % self.num_heads:
            raise ValueError(
                f"token_channels is a multiple of 64 and of num_heads {self.num_heads}, got {self.token_channels}"
            )


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Stable Diffusion's autoencoder (diffusers' AutoencoderKL)."""

    channels: tuple[int, int, int, int]
    """(128, 256, 512, 512)."""
    layers_per_block: int
    norm_groups: int


@dataclass(frozen=True, kw_only=True)
class TinyDecoderConfig:
    """TAESD (diffusers' AutoencoderTiny): a small decoder of the same latents."""

    channels: int
    """(64)."""
    num_blocks: tuple[int, int, int, int]
    """Residual blocks of the decoder's four scales (3, 3, 3, 1)."""


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """CLIP's picture tower (transformers' CLIPVisionModelWithProjection)."""

    image_size: int
    patch_size: int
    width: int
    hidden: int
    num_layers: int
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class MotionSizes:
    """What sees the driver's pose, and what draws it."""

    extractor_size: int
    """Side in pixels of the picture that the motion extractor sees (256); a multiple of 32."""
    extractor_channels: tuple[int, int, int, int]
    """Widths of its four stages (96, 192, 384, 768)."""
    pose_channels: tuple[int, int, int, int]
    """E_p: widths at 1, 1/2, 1/4 and 1/8 of the drawing (16, 32, 96, 256)."""

"""Sizes of the networks. No defaults: a checkpoint says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NUM_SCALES = 4
"""Latent grids that the UNets work on: 1, 1/2, 1/4 and 1/8. Part of the checkpoint format."""
HOURGLASS_DEPTH = 4
STABLE_CHANNELS = 4
"""Of Stable Diffusion's latents."""
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
    latent_channels: int
    """(4)."""
    known_channels: int
    """Of latents that the denoiser is told beside the noisy ones: those of the portrait, bent to where the head of each
    frame is; then how frames differ from it is drawn. As many as there are, or 0 (published): frames are drawn."""
    answers: Literal["noise", "clean"]
    """What the denoiser says: the noise (published), or what is clean, from which the noise follows. A network that
    begins from nothing then begins by drawing nothing."""
    motion_tokens: int | None
    """How many a frame has, for layers that are modulated by them as by the noise level; None (published): they are
    only looked at."""
    learned_places: int | None
    """Latent cells along a side that have a learned vector each, for crops that put a face always in the same place;
    None (published): there are none."""

    def __post_init__(self) -> None:
        if self.known_channels not in (0, self.latent_channels):
            raise ValueError(
                f"known_channels are none or the {self.latent_channels} of latents, got {self.known_channels}"
            )
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
    map_channels: int
    """Maps that these become before they are read as numbers (1)."""
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

    @property
    def latent_channels(self) -> int:
        return STABLE_CHANNELS


@dataclass(frozen=True, kw_only=True)
class BlockVaeConfig:
    """A VAE that is solved, not learned: principal components of blocks of 8 x 8 pixels, and a small network that mends
    what they leave out. Mean and spread of latents lie beside the components."""

    latent_channels: int
    """Components; 192 would be all of a block."""
    mending_width: int
    """Channels of the network, at a quarter of the picture's side."""
    num_mending_blocks: int


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
class MotionExtractorConfig:
    """M, which sees how a head is posed (face/motion_extractor.py)."""

    image_size: int
    """Side in pixels of the picture that it sees (256); a multiple of 32."""
    channels: tuple[int, int, int, int]
    """Widths of its four stages (96, 192, 384, 768)."""

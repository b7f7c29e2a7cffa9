"""Sizes of the networks. No defaults: a checkpoint says what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HEAD_POSE_CHANNELS, EYE_CHANNELS, EMOTION_CHANNELS = 6, 6, 30
"""Of the face features, the same in all sizes."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The video diffusion transformer: Wan2.1 image-to-video, with two more matrices per block."""

    num_layers: int
    num_heads: int
    head_channels: int
    """Even, 6 or more. Split between time, row and column for the rotary embedding."""
    feed_forward_channels: int
    latent_channels: int
    text_channels: int
    num_text_tokens: int
    image_channels: int
    """Of the image encoder's tokens."""
    expression_channels: int
    """Of the portrait encoder's tokens."""
    frequency_channels: int
    """Of the sinusoid that stands for time; even."""
    answers: Literal["velocity", "clean"]
    """What comes out: velocity (published), or clean latents, from which the velocity follows. A network that is hardly
    wider than its patches cannot carry their noise through."""
    motion_tokens: int | None
    """How many expression tokens a latent has, for blocks that are modulated by them beside the time; None (published):
    they are only attended."""
    learned_places: int | None
    """Rows and columns of patches that have a learned vector each, for crops that put a face always in the same place;
    None (published): patches know only where they are to each other."""

    def __post_init__(self) -> None:
        if self.head_channels % 2 or self.head_channels < 6:
            raise ValueError(f"head_channels is even and 6 or more, got {self.head_channels}")
        if self.frequency_channels % 2:
            raise ValueError(f"frequency_channels is even, got {self.frequency_channels}")

    @property
    def width(self) -> int:
        return self.num_heads * self.head_channels


@dataclass(frozen=True, kw_only=True)
class PortraitEncoderConfig:
    """Face features to tokens."""

    token_channels: int
    width: int
    """Of the two resamplers."""
    num_layers: int
    num_heads: int
    head_channels: int
    num_mouth_tokens: int
    num_emotion_tokens: int
    mouth_channels: int
    learned_places: bool
    """Whether the tokens of a latent know of which of its frames they are; not published."""

    @property
    def tokens_per_frame(self) -> int:
        return 4 + self.num_mouth_tokens + self.num_emotion_tokens


@dataclass(frozen=True, kw_only=True)
class FaceFeaturesConfig:
    """PD-FGC (arXiv 2211.14506): head pose, eyes, emotion and mouth from an aligned face."""

    image_size: int
    """Side in pixels of the aligned face, a multiple of 64; 224 would be 3.5 such and is allowed."""
    width: int
    """Channels of the first convolution; four times as many in the hourglass."""
    map_channels: int
    """Maps that 68 heatmaps become before they are read as numbers; 1 published."""
    mouth_channels: int
    """Channels of all hidden features, and of the mouth's, which are not narrowed further."""

    def __post_init__(self) -> None:
        if self.image_size % 32 or self.width % 4:
            raise ValueError(
                f"image_size is a multiple of 32 and width of 4, got {self.image_size} and {self.width}"
            )


@dataclass(frozen=True, kw_only=True)
class ImageEncoderConfig:
    """CLIP's vision tower without its last block, whose output nobody reads."""

    num_layers: int
    width: int
    num_heads: int
    feed_forward_channels: int
    image_size: int
    patch_size: int

    @property
    def num_tokens(self) -> int:
        return 1 + (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """The Wan2.1 video VAE: 8 x 8 pixels and 4 frames to a latent cell, the first frame alone."""

    base_channels: int
    channel_multipliers: tuple[int, int, int, int]
    num_residual_blocks: int
    latent_mean: tuple[float, ...]
    """Of the training set, per latent channel."""
    latent_std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.latent_mean) != len(self.latent_std):
            raise ValueError(
                "latent_mean and latent_std have one number per channel, got "
                f"{len(self.latent_mean)} and {len(self.latent_std)}"
            )

    @property
    def latent_channels(self) -> int:
        return len(self.latent_mean)


@dataclass(frozen=True, kw_only=True)
class BlockVaeConfig:
    """A VAE that is solved, not learned: principal components of blocks of 8 x 8 pixels and 4 frames, and a small
    network that mends what they leave out. Mean and spread of latents lie beside the components."""

    still_channels: int
    """Of what the four frames have in common; 192 would be all of it."""
    moving_channels: int
    """Of what tells them apart."""
    mending_width: int
    """Channels of the network, at a quarter of the picture's side."""
    num_mending_blocks: int

    @property
    def latent_channels(self) -> int:
        return self.still_channels + self.moving_channels


@dataclass(frozen=True, kw_only=True)
class TinyVaeConfig:
    """TAEHV, a small stand-in for the VAE."""

    decoder_channels: tuple[int, int, int, int]
    encoder_channels: int
    latent_channels: int


def wan_14b() -> TransformerConfig:
    """As published: 17.2 G parameters."""
    return TransformerConfig(
        num_layers=40,
        num_heads=40,
        head_channels=128,
        feed_forward_channels=13824,
        latent_channels=16,
        text_channels=4096,
        num_text_tokens=512,
        image_channels=1280,
        expression_channels=2048,
        frequency_channels=256,
        answers="velocity",
        motion_tokens=None,
        learned_places=None,
    )


def wan_1b() -> TransformerConfig:
    """The widths of Wan2.1's 1.3 B text-to-video model, with image and expression attention: 1.8 G parameters."""
    return TransformerConfig(
        num_layers=30,
        num_heads=12,
        head_channels=128,
        feed_forward_channels=8960,
        latent_channels=16,
        text_channels=4096,
        num_text_tokens=512,
        image_channels=1280,
        expression_channels=2048,
        frequency_channels=256,
        answers="velocity",
        motion_tokens=None,
        learned_places=None,
    )


def mini_transformer() -> TransformerConfig:
    """4.7 M parameters."""
    return TransformerConfig(
        num_layers=6,
        num_heads=4,
        head_channels=48,
        feed_forward_channels=576,
        latent_channels=32,
        text_channels=32,
        num_text_tokens=8,
        image_channels=96,
        expression_channels=128,
        frequency_channels=128,
        answers="clean",
        motion_tokens=41,
        learned_places=8,
    )


def tiny_transformer() -> TransformerConfig:
    """For tests."""
    return TransformerConfig(
        num_layers=2,
        num_heads=2,
        head_channels=12,
        feed_forward_channels=32,
        latent_channels=4,
        text_channels=8,
        num_text_tokens=3,
        image_channels=16,
        expression_channels=16,
        frequency_channels=16,
        answers="velocity",
        motion_tokens=None,
        learned_places=None,
    )


def published_portrait_encoder() -> PortraitEncoderConfig:
    """164 M parameters."""
    return PortraitEncoderConfig(
        token_channels=2048,
        width=1280,
        num_layers=4,
        num_heads=20,
        head_channels=64,
        num_mouth_tokens=16,
        num_emotion_tokens=4,
        mouth_channels=512,
        learned_places=False,
    )


def mini_portrait_encoder() -> PortraitEncoderConfig:
    """0.3 M parameters; 4 + 4 + 2 tokens per frame."""
    return PortraitEncoderConfig(
        token_channels=128,
        width=96,
        num_layers=1,
        num_heads=3,
        head_channels=32,
        num_mouth_tokens=4,
        num_emotion_tokens=2,
        mouth_channels=96,
        learned_places=True,
    )


def tiny_portrait_encoder() -> PortraitEncoderConfig:
    """For tests: 7 tokens per frame."""
    return PortraitEncoderConfig(
        token_channels=16,
        width=16,
        num_layers=1,
        num_heads=2,
        head_channels=8,
        num_mouth_tokens=2,
        num_emotion_tokens=1,
        mouth_channels=16,
        learned_places=False,
    )


def published_face_features() -> FaceFeaturesConfig:
    """9.0 M parameters."""
    return FaceFeaturesConfig(image_size=224, width=64, map_channels=1, mouth_channels=512)


def mini_face_features() -> FaceFeaturesConfig:
    """0.6 M parameters."""
    return FaceFeaturesConfig(image_size=128, width=12, map_channels=8, mouth_channels=96)


def tiny_face_features() -> FaceFeaturesConfig:
    """For tests."""
    return FaceFeaturesConfig(image_size=64, width=4, map_channels=2, mouth_channels=16)


def wan_image_encoder() -> ImageEncoderConfig:
    """OpenCLIP ViT-H/14, 31 of its 32 blocks."""
    return ImageEncoderConfig(
        num_layers=31, width=1280, num_heads=16, feed_forward_channels=5120, image_size=224, patch_size=14
    )


def mini_image_encoder() -> ImageEncoderConfig:
    """0.4 M parameters; 65 tokens."""
    return ImageEncoderConfig(
        num_layers=3, width=96, num_heads=4, feed_forward_channels=384, image_size=128, patch_size=16
    )


def tiny_image_encoder() -> ImageEncoderConfig:
    """For tests: 5 tokens."""
    return ImageEncoderConfig(
        num_layers=1, width=16, num_heads=2, feed_forward_channels=32, image_size=28, patch_size=14
    )


WAN_LATENT_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
WAN_LATENT_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)


def wan_vae() -> VaeConfig:
    """As published by Wan2.1: 127 M parameters."""
    return VaeConfig(
        base_channels=96,
        channel_multipliers=(1, 2, 4, 4),
        num_residual_blocks=2,
        latent_mean=WAN_LATENT_MEAN,
        latent_std=WAN_LATENT_STD,
    )


def mini_vae() -> BlockVaeConfig:
    """0.9 M parameters."""
    return BlockVaeConfig(still_channels=24, moving_channels=8, mending_width=96, num_mending_blocks=3)


def small_vae() -> VaeConfig:
    """Wan's structure in 1.8 M parameters."""
    return VaeConfig(
        base_channels=16,
        channel_multipliers=(1, 2, 3, 3),
        num_residual_blocks=1,
        latent_mean=(0.0,) * 8,
        latent_std=(1.0,) * 8,
    )


def tiny_vae() -> VaeConfig:
    """For tests."""
    return VaeConfig(
        base_channels=4,
        channel_multipliers=(1, 1, 2, 2),
        num_residual_blocks=1,
        latent_mean=(0.1, -0.1, 0.0, 0.0),
        latent_std=(1.0, 1.1, 0.9, 1.0),
    )


def tiny_block_vae() -> BlockVaeConfig:
    """For tests."""
    return BlockVaeConfig(still_channels=12, moving_channels=4, mending_width=8, num_mending_blocks=1)


def wan_tiny_vae() -> TinyVaeConfig:
    """As published: 11.3 M parameters."""
    return TinyVaeConfig(decoder_channels=(256, 128, 64, 64), encoder_channels=64, latent_channels=16)


def tiny_tiny_vae() -> TinyVaeConfig:
    """For tests."""
    return TinyVaeConfig(decoder_channels=(8, 4, 4, 4), encoder_channels=4, latent_channels=4)

"""Sizes and options of the family personalive (arXiv 2512.11253). Sizes have no defaults: they are saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vivant.engines.personalive.config_networks import (
    BlockVaeConfig,
    ImageEncoderConfig,
    MotionEncoderConfig,
    MotionExtractorConfig,
    TinyDecoderConfig,
    UnetConfig,
    VaeConfig,
)

LATENT_FACTOR = 8
"""Pixels per latent cell, each way."""
SIZE_STEP = 64
"""Frames have sides that are multiples of this: the latent is halved three times."""
NUM_TRAINING_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Config:
    """One checkpoint of this family, and the window it streams in.

    `chunk_frames` and `timesteps` may be changed in a checkpoint's config.json: the weights accept any window of up
    to `unet.max_frames` frames, and were trained for 4 frames and 4 levels.
    """

    image_size: int
    """Side in pixels of crops and of frames (512); a multiple of 64."""
    chunk_frames: int
    """M: frames that enter and leave together (4)."""
    timesteps: tuple[int, ...]
    """t_1 < ... < t_N: noise levels of the chunks in the window, the oldest first (0, 333, 666, 999)."""
    betas: tuple[float, float]
    """First and last of the scaled-linear schedule (0.00085, 0.02). Stable Diffusion itself ends at 0.012."""
    crop_scale: float
    """Side of crops, a portrait's and a driver's, over the longer extent of the face's points; 2.3 as everywhere."""
    crop_vy: float
    """Shift of the crop's middle along the face, relative to its side; negative is towards the forehead."""
    keyframe_threshold: float
    """The paper's tau where a user names none (17): a distance between motion tokens, so it belongs to the weights."""
    unet: UnetConfig
    motion_encoder: MotionEncoderConfig
    motion_extractor: MotionExtractorConfig | None
    """None: there is no such network, and heads are those that the points of the face mesh are of (heads.py)."""
    pose_channels: tuple[int, int, int, int]
    """E_p: widths at 1, 1/2, 1/4 and 1/8 of the drawing (16, 32, 96, 256)."""
    vae: VaeConfig | BlockVaeConfig
    tiny_decoder: TinyDecoderConfig | None
    """None where the checkpoint holds no TAESD; a block VAE does not want it."""
    image_encoder: ImageEncoderConfig

    def __post_init__(self) -> None:
        if self.image_size % SIZE_STEP or self.image_size < SIZE_STEP:
            raise ValueError(f"image_size is a multiple of {SIZE_STEP}, got {self.image_size}")
        steps = self.timesteps
        if (
            not steps
            or list(steps) != sorted(set(steps))
            or not 0 <= steps[0] <= steps[-1] < NUM_TRAINING_STEPS
        ):
            raise ValueError(f"timesteps ascend from 0 to {NUM_TRAINING_STEPS - 1} at most, got {steps}")
        if self.chunk_frames < 1 or self.window_frames > self.unet.max_frames:
            raise ValueError(
                f"a window has 1 to {self.unet.max_frames} frames, got {len(steps)} chunks of {self.chunk_frames}"
            )
        if self.unet.motion_channels != self.motion_encoder.motion_channels:
            raise ValueError(
                "motion encoder and UNet share their tokens, got "
                f"{self.motion_encoder.motion_channels} and {self.unet.motion_channels} channels"
            )
        if self.unet.motion_tokens not in (None, self.motion_encoder.num_tokens):
            raise ValueError(
                f"motion_tokens is None or {self.motion_encoder.num_tokens}, as many as the motion encoder makes"
            )
        if self.unet.latent_channels != self.vae.latent_channels:
            raise ValueError(
                "VAE and UNet share their latents, got "
                f"{self.vae.latent_channels} and {self.unet.latent_channels} channels"
            )
        if self.draws_differences and not isinstance(self.vae, BlockVaeConfig):
            raise ValueError("differences to the bent portrait are drawn with a block VAE only")
        if self.unet.learned_places is not None and not self.draws_differences:
            raise ValueError("frames of any oblong size are drawn without learned_places only")
        if self.unet.learned_places not in (None, self.image_size // LATENT_FACTOR):
            raise ValueError(
                f"learned_places is None or {self.image_size // LATENT_FACTOR}, the latent cells along a side"
            )

    @property
    def draws_differences(self) -> bool:
        """To the portrait, bent frame by frame to where the head goes; or else frames."""
        return self.unet.known_channels > 0

    @property
    def has_tiny_decoder(self) -> bool:
        """Whether there is a faster, coarser way from latents to pictures: TAESD, or a solved VAE without mending."""
        return self.tiny_decoder is not None or isinstance(self.vae, BlockVaeConfig)

    @property
    def reads_mesh(self) -> bool:
        """Whether heads are read off the face mesh, not by a network."""
        return self.motion_extractor is None

    @property
    def num_chunks(self) -> int:
        """N: chunks in the window."""
        return len(self.timesteps)

    @property
    def window_frames(self) -> int:
        """M N."""
        return self.chunk_frames * self.num_chunks

    @property
    def delay_frames(self) -> int:
        """M (N - 1): frames that follow a chunk into the window before it leaves."""
        return self.chunk_frames * (self.num_chunks - 1)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may change between two chunks."""

    decoder: Literal["full", "tiny"] = "full"
    """What turns latents into pictures: the full decoder, or the tiny one, faster and coarser (of personalive-mini: the
    full one without what mends pictures)."""
    renoise: Literal["ddim", "fresh"] = "ddim"
    """How chunks go down a noise level: along the predicted noise (published program), or with fresh noise (paper)."""
    lead_in: Literal["dropped", "shown"] = "dropped"
    """The first frames move from the portrait's pose to the driver's. Dropped: frames out are the driver's, in step
    with its sound, and come late. Shown: frames come at once, as many as went in, and lag behind."""
    placement: Literal["published", "paper"] = "published"
    """Where the head goes: the portrait's size and half of the driver's shift (published program), or the driver's own
    size and place (paper)."""
    keyframes: Literal["capped", "newest", "off"] = "capped"
    """Frames of the stream that are remembered beside the portrait: the first few, the newest few, or none."""
    keyframe_threshold: float | None = None
    """How far motion must be from all that is remembered; the paper's tau. Lower: steadier; higher: more like the
    portrait. [default: the checkpoint's; published, 17]"""
    max_keyframes: int = 3
    """How many keyframes are remembered; each costs memory and time."""
    keyframe_warmup_chunks: int = 9
    """Chunks before the first keyframe may be taken; the paper has none."""
    keyframe_max_drift: float | None = None
    """Refuse a keyframe whose colours have drifted this far from the portrait's, 0.1 strict to 1 lenient. [default:
    take every keyframe]"""

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("--decoder", self.decoder, ("full", "tiny")),
            ("--renoise", self.renoise, ("ddim", "fresh")),
            ("--lead-in", self.lead_in, ("dropped", "shown")),
            ("--placement", self.placement, ("published", "paper")),
            ("--keyframes", self.keyframes, ("capped", "newest", "off")),
        )
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"{name} is {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
        if self.keyframe_threshold is not None and not self.keyframe_threshold >= 0:
            raise ValueError(f"--keyframe-threshold is 0 or more, got {self.keyframe_threshold}")
        if not 1 <= self.max_keyframes <= 8:
            raise ValueError(
                f"--max-keyframes is 1 to 8, got {self.max_keyframes}; --keyframes off takes none"
            )
        if self.keyframe_warmup_chunks < 0:
            raise ValueError(f"--keyframe-warmup-chunks is 0 or more, got {self.keyframe_warmup_chunks}")
        if self.keyframe_max_drift is not None and not self.keyframe_max_drift > 0:
            raise ValueError(f"--keyframe-max-drift is above 0, got {self.keyframe_max_drift}")


def published() -> Config:
    """The published checkpoint: 3.0 G parameters, 512 px."""
    return Config(
        image_size=512,
        chunk_frames=4,
        timesteps=(0, 333, 666, 999),
        betas=(0.00085, 0.02),
        crop_scale=2.3,
        crop_vy=-0.125,
        keyframe_threshold=17.0,
        unet=UnetConfig(
            channels=(320, 640, 1280, 1280),
            num_heads=8,
            norm_groups=32,
            identity_channels=768,
            motion_channels=16,
            max_frames=32,
            latent_channels=4,
            known_channels=0,
            answers="noise",
            motion_tokens=None,
            learned_places=None,
        ),
        motion_encoder=MotionEncoderConfig(
            image_size=224,
            channels=(64, 128, 256),
            token_channels=1024,
            num_heads=8,
            norm_groups=32,
            num_heatmaps=68,
            map_channels=1,
            num_tokens=32,
            motion_channels=16,
        ),
        motion_extractor=MotionExtractorConfig(image_size=256, channels=(96, 192, 384, 768)),
        pose_channels=(16, 32, 96, 256),
        vae=VaeConfig(channels=(128, 256, 512, 512), layers_per_block=2, norm_groups=32),
        tiny_decoder=None,
        image_encoder=ImageEncoderConfig(
            image_size=224, patch_size=14, width=1024, hidden=4096, num_layers=24, num_heads=16
        ),
    )


def published_tiny_decoder() -> TinyDecoderConfig:
    """TAESD as published."""
    return TinyDecoderConfig(channels=64, num_blocks=(3, 3, 3, 1))


def mini() -> Config:
    """personalive-mini: the same structure at 128 px, with a VAE that is solved and differences to the bent portrait.

    Its schedule ends where Stable Diffusion's own does. 32 heatmaps are as many as eyes and mouth have points.
    """
    return Config(
        image_size=128,
        chunk_frames=4,
        timesteps=(0, 333, 666, 999),
        betas=(0.00085, 0.012),
        crop_scale=1.58,
        crop_vy=-0.03,
        keyframe_threshold=4.0,
        unet=UnetConfig(
            channels=(56, 40, 32, 24),
            num_heads=4,
            norm_groups=8,
            identity_channels=64,
            motion_channels=16,
            max_frames=32,
            latent_channels=24,
            known_channels=24,
            answers="clean",
            motion_tokens=24,
            learned_places=16,
        ),
        motion_encoder=MotionEncoderConfig(
            image_size=96,
            channels=(16, 32, 48),
            token_channels=64,
            num_heads=4,
            norm_groups=8,
            num_heatmaps=32,
            map_channels=8,
            num_tokens=24,
            motion_channels=16,
        ),
        motion_extractor=None,
        pose_channels=(8, 16, 24, 32),
        vae=BlockVaeConfig(latent_channels=24, mending_width=48, num_mending_blocks=3),
        tiny_decoder=None,
        image_encoder=ImageEncoderConfig(
            image_size=64, patch_size=16, width=64, hidden=128, num_layers=2, num_heads=4
        ),
    )


def tiny() -> Config:
    """Runs in milliseconds, for tests: windows of three chunks of two frames."""
    return Config(
        image_size=64,
        chunk_frames=2,
        timesteps=(0, 499, 999),
        betas=(0.00085, 0.02),
        crop_scale=2.3,
        crop_vy=-0.125,
        keyframe_threshold=17.0,
        unet=UnetConfig(
            channels=(8, 8, 16, 16),
            num_heads=2,
            norm_groups=4,
            identity_channels=8,
            motion_channels=4,
            max_frames=8,
            latent_channels=4,
            known_channels=0,
            answers="noise",
            motion_tokens=None,
            learned_places=None,
        ),
        motion_encoder=MotionEncoderConfig(
            image_size=64,
            channels=(4, 8, 16),
            token_channels=64,
            num_heads=2,
            norm_groups=4,
            num_heatmaps=6,
            map_channels=1,
            num_tokens=4,
            motion_channels=4,
        ),
        motion_extractor=MotionExtractorConfig(image_size=64, channels=(4, 4, 8, 8)),
        pose_channels=(4, 4, 4, 8),
        vae=VaeConfig(channels=(4, 4, 8, 8), layers_per_block=1, norm_groups=2),
        tiny_decoder=TinyDecoderConfig(channels=4, num_blocks=(1, 1, 1, 1)),
        image_encoder=ImageEncoderConfig(
            image_size=32, patch_size=16, width=8, hidden=16, num_layers=1, num_heads=2
        ),
    )


def tiny_differences() -> Config:
    """As personalive-mini does it, in milliseconds."""
    config = tiny()
    vae = BlockVaeConfig(latent_channels=6, mending_width=8, num_mending_blocks=1)
    return replace(
        config,
        motion_extractor=None,
        unet=replace(
            config.unet,
            latent_channels=6,
            known_channels=6,
            answers="clean",
            motion_tokens=4,
            learned_places=8,
        ),
        motion_encoder=replace(config.motion_encoder, num_heatmaps=32, map_channels=2),
        vae=vae,
        tiny_decoder=None,
    )

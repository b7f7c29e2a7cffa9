"""Sizes and options of the family refvae (arXiv 2606.01620). Sizes have no defaults: they live beside the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vivant.engines.refvae import config_generator, config_vae
from vivant.engines.refvae.config_generator import GeneratorConfig
from vivant.engines.refvae.config_vae import VaeConfig

FRAME_RATE_HZ = 25.0
SAMPLE_RATE_HZ = 16_000
BLOCK_LATENTS = 4
CHUNK_FRAMES = 16
"""Frames of a block of latents, but for the first of a stream, which has DELAY_FRAMES less."""
DELAY_FRAMES = 3
MAX_STEPS = 250
"""Far beyond where more steps change anything; their table then takes 110 MB at full size."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One checkpoint of this family."""

    image_size: int
    """Side in pixels of crops and of frames; a multiple of the VAE's space_factor."""
    crop_scale: float
    """Side of the square around a face, over the longer extent of the face's points."""
    crop_vy: float
    """Shift of its centre relative to the side; negative is towards the forehead."""
    vae: VaeConfig
    generator: GeneratorConfig
    audio_widths: tuple[int, int, int, int, int]
    """Widths of the audio tower; published (32, 64, 128, 256, 512)."""
    audio_lead_frames: int
    """How much of the 200 ms window that a frame hears lies before it: 2 frames centre it, 4 leave 52 ms ahead."""

    def __post_init__(self) -> None:
        cell = self.vae.space_factor
        if self.image_size % cell or self.image_size < cell:
            raise ValueError(f"image_size is a multiple of {cell}, got {self.image_size}")
        if self.vae.latent_channels != self.generator.latent_channels:
            raise ValueError(
                "VAE and generator share their latents, got "
                f"{self.vae.latent_channels} and {self.generator.latent_channels} channels"
            )
        if self.audio_widths[-1] != self.generator.audio_features:
            raise ValueError(
                "the generator hears the audio tower, got "
                f"{self.generator.audio_features} and {self.audio_widths[-1]} features"
            )
        if self.generator.block_latents != BLOCK_LATENTS:
            raise ValueError(f"block_latents is {BLOCK_LATENTS}, got {self.generator.block_latents}")
        if self.generator.learned_places not in (None, self.cells):
            raise ValueError(
                f"learned_places is the {self.cells} cells of a latent or None, got {self.generator.learned_places}"
            )
        if not 2 <= self.audio_lead_frames <= 5:
            raise ValueError(f"audio_lead_frames is 2 to 5, got {self.audio_lead_frames}")

    @property
    def cells(self) -> int:
        """Cells of a latent, each way."""
        return self.image_size // self.vae.space_factor


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may change between two blocks."""

    audio_guidance: float = 3.0
    """How strongly lips follow the sound; 1 as trained and faster, 2 is the paper's, 3 suits refvae-mini."""
    reference_guidance: float = 3.0
    """How strongly the person is kept; 1 as trained and faster, 2 is the paper's, 3 suits refvae-mini."""
    num_steps: int = 12
    """Steps from noise to picture."""
    step_shift: float = 5.0
    """Above 1: more of the steps near the noise."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_steps <= MAX_STEPS:
            raise ValueError(f"--num-steps is 1 to {MAX_STEPS}, got {self.num_steps}")
        if self.step_shift <= 0:
            raise ValueError(f"--step-shift is positive, got {self.step_shift}")
        for name in ("audio_guidance", "reference_guidance"):
            if not 0 <= getattr(self, name) <= 20:
                raise ValueError(f"--{name.replace('_', '-')} is 0 to 20, got {getattr(self, name)}")


def full() -> Config:
    """The paper's model at 512 px."""
    return Config(
        image_size=512,
        crop_scale=2.3,
        crop_vy=-0.125,
        vae=config_vae.full(),
        generator=config_generator.full(),
        audio_widths=(32, 64, 128, 256, 512),
        audio_lead_frames=2,
    )


def mini() -> Config:
    """For a checkpoint below 15 MB in half precision, at 128 px: 7.3 M parameters.

    The face fills the square, and its mouth lies in the middle of the third of four rows of cells whoever it is: else
    where a mouth lies would differ more than how far it opens, and a generator this small would not hear anything.
    """
    return Config(
        image_size=128,
        crop_scale=1.5,
        crop_vy=0.01,
        vae=config_vae.mini(),
        generator=config_generator.mini(),
        audio_widths=(16, 32, 64, 96, 256),
        audio_lead_frames=2,
    )


def tiny() -> Config:
    """Runs in milliseconds, for tests."""
    return Config(
        image_size=64,
        crop_scale=2.3,
        crop_vy=-0.125,
        vae=config_vae.tiny(),
        generator=replace(config_generator.tiny(), audio_features=64),
        audio_widths=(4, 4, 8, 16, 64),
        audio_lead_frames=2,
    )

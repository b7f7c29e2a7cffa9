"""Sizes of the autoregressive generator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Every width of the transformer and of its audio embedders. No defaults: a checkpoint says what it is."""

    num_blocks: int
    num_heads: int
    head_channels: int
    """Even. Split between time, row and column for the rotary embedding."""
    latent_channels: int
    audio_features: int
    """Width of the audio tower's features per video frame."""
    audio_channels: int
    """Width of the sound that is laid beside each latent cell; its embedders are twice as wide inside."""
    block_latents: int
    """Latents that are drawn together."""
    window_latents: int
    """Latents that are remembered, the present block included; a multiple of block_latents."""
    references_beside: bool
    """Whether each token that is drawn has the references' latents at its place laid beside it. Not in the paper: a
    transformer this narrow is slow to learn that a person stays."""
    learned_places: int | None
    """None: tokens know of each other only how far apart they lie (the paper's rotary embedding). A number, cells of a
    latent each way: each cell has its own vector too, for faces fill their crops and mouths lie in the same cells."""
    difference_spread: float | None
    """None: latents are drawn as they are. A number: as differences to the mean of the references' latents, in units of
    this. Not in the paper: nothing then has to be learned for a person to stay, over any length."""

    def __post_init__(self) -> None:
        if self.head_channels % 2 or self.head_channels < 6:
            raise ValueError(f"head_channels is even and 6 or more, got {self.head_channels}")
        if self.window_latents % self.block_latents:
            raise ValueError(
                f"window_latents is a multiple of block_latents, got {self.window_latents} and {self.block_latents}"
            )
        if self.difference_spread is not None and self.difference_spread <= 0:
            raise ValueError(f"difference_spread is positive or None, got {self.difference_spread}")

    @property
    def width(self) -> int:
        return self.num_heads * self.head_channels

    @property
    def window_blocks(self) -> int:
        return self.window_latents // self.block_latents


def full() -> GeneratorConfig:
    """As the paper's: 1.03 G parameters."""
    return GeneratorConfig(
        num_blocks=24,
        num_heads=12,
        head_channels=128,
        latent_channels=64,
        audio_features=512,
        audio_channels=512,
        block_latents=4,
        window_latents=32,
        references_beside=False,
        learned_places=None,
        difference_spread=None,
    )


def small() -> GeneratorConfig:
    """59 M parameters."""
    return GeneratorConfig(
        num_blocks=12,
        num_heads=8,
        head_channels=64,
        latent_channels=64,
        audio_features=512,
        audio_channels=256,
        block_latents=4,
        window_latents=32,
        references_beside=False,
        learned_places=None,
        difference_spread=None,
    )


def mini() -> GeneratorConfig:
    """1.7 M parameters; windows of 2.5 s, for a latent at 128 px has 16 cells and attention pays for each."""
    return GeneratorConfig(
        num_blocks=4,
        num_heads=3,
        head_channels=48,
        latent_channels=64,
        audio_features=256,
        audio_channels=32,
        block_latents=4,
        window_latents=16,
        references_beside=True,
        learned_places=4,
        difference_spread=0.5,
    )


def tiny() -> GeneratorConfig:
    """For tests: 0.36 M parameters, windows of three blocks."""
    return GeneratorConfig(
        num_blocks=2,
        num_heads=2,
        head_channels=32,
        latent_channels=64,
        audio_features=512,
        audio_channels=32,
        block_latents=4,
        window_latents=12,
        references_beside=True,
        learned_places=1,
        difference_spread=0.5,
    )

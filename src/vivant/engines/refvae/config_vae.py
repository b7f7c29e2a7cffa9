"""Sizes of the causal video VAE. The paper gives totals, not widths; these tables meet the totals within 0.2 %."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Every width of E1, E2, D1, D_ref and D2. No defaults: a checkpoint says what it is."""

    encoder_channels: tuple[int, ...]
    """E1: widths of its stages, each of which halves the picture; the paper's four stand at 1, 1/2, 1/4 and 1/8 of it.
    The second and the third also halve time."""
    feature_channels: int
    """Width behind them, at 1/16 of the picture: output of E1, input of E2, and of the reference features."""
    deep_channels: tuple[int, int]
    """E2: widths after its two downsamplings, at 1/32 and 1/64."""
    decoder_deep_channels: tuple[int, int]
    """D1: widths at 1/64 and 1/32; at 1/16 it is feature_channels."""
    decoder_channels: tuple[int, ...]
    """D2: widths of as many stages as E1 has, at 1/8, 1/4, 1/2 and 1."""
    num_reference_blocks: int
    num_heads: int
    head_channels: int
    """Of the attention in D_ref; a multiple of 4, half for rows and half for columns."""
    latent_channels: int
    temporal_padding: Literal["replicate", "zeros"]
    """What stands before the first frame of a stream."""
    encoder_blocks: tuple[int, ...] = (2, 2, 2, 2)
    """Residual blocks in each stage of E1."""
    decoder_blocks: tuple[int, ...] = (2, 2, 2, 2)
    """And of D2."""
    deep_kernel_frames: int = 3
    """Latents that each convolution of E2 and D1 sees at once; 1: every latent on its own."""
    resampling: Literal["residual", "interpolation"] = "residual"
    """How layers change size: as the paper has it, or pooled and repeated, with which its Table 2 compares."""

    def __post_init__(self) -> None:
        if self.head_channels % 4:
            raise ValueError(f"head_channels is a multiple of 4, got {self.head_channels}")
        if self.latent_channels < 1 or self.num_reference_blocks < 0:
            raise ValueError(
                f"latent_channels is 1 or more and num_reference_blocks 0 or more, got "
                f"{self.latent_channels} and {self.num_reference_blocks}"
            )
        counts = [
            len(stages)
            for stages in (
                self.encoder_channels,
                self.decoder_channels,
                self.encoder_blocks,
                self.decoder_blocks,
            )
        ]
        if len(set(counts)) > 1 or counts[0] < MIN_STAGES:
            raise ValueError(
                f"E1 and D2 have as many stages, {MIN_STAGES} or more, each with a width and a number of blocks, "
                f"got {counts}"
            )

    @property
    def space_factor(self) -> int:
        """Pixels per latent cell, each way; the paper's 64."""
        return 2 ** (len(self.encoder_channels) + len(self.deep_channels))


MIN_STAGES = 3
"""Time is halved in the second and in the third."""
TIME_FACTOR = 4
"""Frames per latent, after the first frame, which has a latent of its own."""


def full() -> VaeConfig:
    """As large as the paper's: encoder 496 M parameters (paper 497 M), decoder 405 M (406 M)."""
    return VaeConfig(
        encoder_channels=(128, 256, 512, 1024),
        feature_channels=1024,
        deep_channels=(2048, 2048),
        decoder_deep_channels=(1024, 512),
        decoder_channels=(512, 256, 128, 128),
        num_reference_blocks=6,
        num_heads=16,
        head_channels=64,
        latent_channels=64,
        temporal_padding="replicate",
    )


def full_lite() -> VaeConfig:
    """`full` with half the width at full resolution: the decoder costs half."""
    return replace(full(), decoder_channels=(512, 256, 128, 64))


def small() -> VaeConfig:
    """3/16 of the widths of `full`: 33 M parameters."""
    return replace(
        full(),
        encoder_channels=(24, 48, 96, 192),
        feature_channels=192,
        deep_channels=(384, 384),
        decoder_deep_channels=(192, 96),
        decoder_channels=(96, 48, 24, 24),
        num_heads=3,
    )


def tiny() -> VaeConfig:
    """1/16 of the widths of `full`: 4 M parameters."""
    return replace(
        full(),
        encoder_channels=(8, 16, 32, 64),
        feature_channels=64,
        deep_channels=(128, 128),
        decoder_deep_channels=(64, 32),
        decoder_channels=(32, 16, 8, 8),
        num_reference_blocks=2,
        num_heads=2,
        head_channels=32,
    )


def mini() -> VaeConfig:
    """For CPUs and 128 px: a stage less, so a cell is 32 pixels wide, a quarter of the picture (the paper: an eighth of
    its 512). At 64 pixels a face had 2 x 2 cells, and 64 numbers each cannot tell how it moves.

    Nothing but the resampling at full resolution, where narrow layers cost most and say least.
    """
    return VaeConfig(
        encoder_channels=(16, 32, 64),
        feature_channels=128,
        deep_channels=(128, 128),
        decoder_deep_channels=(128, 128),
        decoder_channels=(64, 32, 16),
        num_reference_blocks=2,
        num_heads=4,
        head_channels=32,
        latent_channels=64,
        temporal_padding="replicate",
        encoder_blocks=(0, 0, 1),
        decoder_blocks=(1, 1, 0),
        deep_kernel_frames=1,
    )

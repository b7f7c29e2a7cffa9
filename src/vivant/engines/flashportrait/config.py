"""Sizes and options of the family flashportrait (arXiv 2512.16900). Sizes have no defaults; they lie beside weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vivant.engines.flashportrait.config_networks import (
    BlockVaeConfig,
    FaceFeaturesConfig,
    ImageEncoderConfig,
    PortraitEncoderConfig,
    TinyVaeConfig,
    TransformerConfig,
    VaeConfig,
    mini_face_features,
    mini_image_encoder,
    mini_portrait_encoder,
    mini_transformer,
    mini_vae,
    published_face_features,
    published_portrait_encoder,
    small_vae,
    tiny_block_vae,
    tiny_face_features,
    tiny_image_encoder,
    tiny_portrait_encoder,
    tiny_tiny_vae,
    tiny_transformer,
    tiny_vae,
    wan_1b,
    wan_14b,
    wan_image_encoder,
    wan_tiny_vae,
    wan_vae,
)

TIME_FACTOR = 4
"""Frames per latent, but for the first, which is one frame."""
NUM_PLACEMENT = 6
"""Numbers that say where a face is: the rows of a matrix (2, 3)."""
SPACE_FACTOR = 8
"""Pixels per latent cell, each way."""

Scene = Literal["talking", "singing", "dancing"]
PROMPTS: dict[Scene, str] = {
    "talking": "A person is talking, looking at the camera.",
    "singing": "A person is singing.",
    "dancing": "A person is dancing.",
}
"""What the transformer is told; encoded once, when the weights are converted. The wording is ours."""
NEGATIVE_PROMPT = "blurred, distorted face, deformed hands, still picture, subtitles, low quality"

Fusion = Literal["causal", "published"]
Prediction = Literal["none", "taylor", "adaptive", "newton", "threshold", "controlled"]
Sampler = Literal["euler", "dpm", "unipc"]
Alignment = Literal["each", "first"]
Level = Literal["velocity", "hidden", "module"]
Drawing = Literal["latents", "differences"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """One checkpoint of this family."""

    image_size: int
    """Side in pixels of crops and of frames; a multiple of 16."""
    window_latents: int
    """Latents that are denoised together: 21 (81 frames, as trained) or 51 (the published program's default)."""
    overlap_latents: int
    """Latents that two windows share, 0 or more; 5 in the paper, 30 with windows of 51."""
    num_steps: int
    """Steps from noise to picture where the user does not say: 30, or 4 for distilled weights."""
    step_shift: float
    """Above 1: more of the steps near the noise; 5 published."""
    distilled: bool
    """Whether the weights were distilled to few steps, which then fall on times of their own."""
    expression_guidance: float
    """How strongly the face follows the driver where the user does not say."""
    crop_scale: float
    """Side of the crop over the longer extent of the face's points; 2.3 as everywhere."""
    crop_vy: float
    """Shift of the crop's middle along the face, relative to its side; negative is towards the forehead."""
    drawing: Drawing
    """What is drawn from noise: latents, told the reference as latent 0 of a grey clip (published); or how they differ
    from those of the reference, bent frame by frame to where the driver's head is (bending.py), which is told."""
    alignment: Alignment
    """Which face is brought into place before it is looked at: each (published: where a head is and how it leans are
    not seen), or first, where later ones are seen move."""
    transformer: TransformerConfig
    portrait_encoder: PortraitEncoderConfig
    face_features: FaceFeaturesConfig
    image_encoder: ImageEncoderConfig
    vae: VaeConfig | BlockVaeConfig
    tiny_vae: TinyVaeConfig | None
    """The small decoder; None where the checkpoint has none."""

    def __post_init__(self) -> None:
        if self.image_size % (2 * SPACE_FACTOR) or self.image_size < 2 * SPACE_FACTOR:
            raise ValueError(f"image_size is a multiple of {2 * SPACE_FACTOR}, got {self.image_size}")
        if not 0 <= self.overlap_latents < self.window_latents:
            raise ValueError(
                "overlap_latents is 0 or more and below window_latents, got "
                f"{self.overlap_latents} and {self.window_latents}"
            )
        if self.vae.latent_channels != self.transformer.latent_channels:
            raise ValueError(
                "VAE and transformer share their latents, got "
                f"{self.vae.latent_channels} and {self.transformer.latent_channels} channels"
            )
        if self.portrait_encoder.token_channels != self.transformer.expression_channels:
            raise ValueError(
                "the transformer reads the portrait encoder, got "
                f"{self.transformer.expression_channels} and {self.portrait_encoder.token_channels} channels"
            )
        places = self.image_size // (2 * SPACE_FACTOR)
        if self.transformer.learned_places not in (None, places):
            raise ValueError(f"learned_places is None or {places}, the patches along a side")
        told = TIME_FACTOR * self.portrait_encoder.tokens_per_frame + 1
        if self.transformer.motion_tokens not in (None, told):
            raise ValueError(f"motion_tokens is None or {told}, what the portrait encoder makes of a latent")
        if self.image_encoder.width != self.transformer.image_channels:
            raise ValueError(
                "the transformer reads the image encoder, got "
                f"{self.transformer.image_channels} and {self.image_encoder.width} channels"
            )
        if self.face_features.mouth_channels != self.portrait_encoder.mouth_channels:
            raise ValueError(
                "the portrait encoder reads face features, got "
                f"{self.portrait_encoder.mouth_channels} and {self.face_features.mouth_channels} channels"
            )
        if self.drawing == "differences" and self.alignment != "first":
            raise ValueError(
                "differences are drawn to where the head went since the first face; alignment is first"
            )
        if self.drawing == "differences" and not isinstance(self.vae, BlockVaeConfig):
            raise ValueError(
                "differences to the reference are drawn with a block VAE only: latents of another one depend on what "
                "came before"
            )
        if self.num_steps < 1 or self.step_shift <= 0:
            raise ValueError(
                f"num_steps is 1 or more and step_shift positive, got {self.num_steps} and {self.step_shift}"
            )

    @property
    def stride_latents(self) -> int:
        """From the start of a window to the start of the next."""
        return self.window_latents - self.overlap_latents

    @property
    def num_features(self) -> int:
        """Of a frame's motion."""
        seen = 42 + self.face_features.mouth_channels
        return seen + NUM_PLACEMENT if self.drawing == "differences" else seen

    @property
    def latent_size(self) -> int:
        """Cells of a latent, each way."""
        return self.image_size // SPACE_FACTOR


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may change between two windows; num_steps, sampler and fusion are fixed when a stream begins."""

    expression_guidance: float | None = None
    """How strongly the face follows the driver; 1 as trained and faster, 4 is published. [default: the preset's]"""
    text_guidance: float = 1.0
    """How strongly the words for the scene are followed; 1 as trained and faster."""
    scene: Scene = "talking"
    """What happens in the driving video: talking, singing or dancing."""
    num_steps: int | None = None
    """Steps from noise to picture. [default: the preset's]"""
    sampler: Sampler = "euler"
    """How a step is taken: euler (published), or dpm (DPM-Solver++ 2M) or unipc, which do with fewer steps."""
    fusion: Fusion = "causal"
    """How windows are joined: causal (answers after one window) or published (exactly as the published program
    does, answers after as many windows as there are steps)."""
    prediction: Prediction = "none"
    """Steps that are predicted instead of computed: none, taylor, adaptive (the paper's), newton, threshold, or
    controlled (only while a probe says that the error stays below prediction_bound)."""
    prediction_horizon: int = 5
    """With prediction: at most this many steps from one computed step to the next."""
    prediction_order: int = 3
    """With prediction: highest difference that is used, 0 to 4."""
    prediction_level: Level = "hidden"
    """With prediction: what is predicted: the velocity, what all blocks together add (hidden), or what every part of
    every block adds (module); memory grows in this order."""
    prediction_bound: float = 0.05
    """With prediction threshold or controlled: relative error per step that is accepted."""
    decoder: Literal["full", "tiny"] = "full"
    """Which VAE turns latents into pictures; tiny is faster and coarser."""
    tile_px: int | None = None
    """Decode pictures in overlapping tiles with sides of this many pixels, for less memory; a multiple of 16.
    [default: whole pictures]"""

    def __post_init__(self) -> None:
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"--num-steps is 1 or more, got {self.num_steps}")
        for name in ("expression_guidance", "text_guidance"):
            strength = getattr(self, name)
            if strength is not None and not 0 <= strength <= 20:
                raise ValueError(f"--{name.replace('_', '-')} is 0 to 20, got {strength}")
        if self.prediction_horizon < 1:
            raise ValueError(f"--prediction-horizon is 1 or more, got {self.prediction_horizon}")
        if not 0 <= self.prediction_order <= 4:
            raise ValueError(f"--prediction-order is 0 to 4, got {self.prediction_order}")
        if self.tile_px is not None and (self.tile_px < 16 or self.tile_px % 16):
            raise ValueError(f"--tile-px is a multiple of 16, got {self.tile_px}")
        if not self.prediction_bound > 0:
            raise ValueError(f"--prediction-bound is positive, got {self.prediction_bound}")


def published() -> Config:
    """The published model at 512 px: 17.2 G parameters in the transformer."""
    return Config(
        image_size=512,
        window_latents=21,
        overlap_latents=5,
        num_steps=30,
        step_shift=5.0,
        distilled=False,
        expression_guidance=4.0,
        crop_scale=2.3,
        crop_vy=-0.125,
        drawing="latents",
        alignment="each",
        transformer=wan_14b(),
        portrait_encoder=published_portrait_encoder(),
        face_features=published_face_features(),
        image_encoder=wan_image_encoder(),
        vae=wan_vae(),
        tiny_vae=wan_tiny_vae(),
    )


def medium() -> Config:
    """The published encoders around a transformer with the widths of Wan2.1 1.3 B."""
    return replace(published(), transformer=wan_1b())


def mini() -> Config:
    """flashportrait-mini: the same structure in 6.8 M parameters, 128 px."""
    return Config(
        image_size=128,
        window_latents=7,
        overlap_latents=2,
        num_steps=4,
        step_shift=15.0,
        distilled=False,
        expression_guidance=1.0,
        crop_scale=1.58,
        crop_vy=-0.03,
        drawing="differences",
        alignment="first",
        transformer=mini_transformer(),
        portrait_encoder=mini_portrait_encoder(),
        face_features=mini_face_features(),
        image_encoder=mini_image_encoder(),
        vae=mini_vae(),
        tiny_vae=None,
    )


def small() -> Config:
    """The published structure at mini's widths, which no weights have: docs/flashportrait.md was measured on it."""
    own = mini()
    sizes = replace(
        own.transformer, latent_channels=8, answers="velocity", motion_tokens=None, learned_places=None
    )
    return replace(
        own,
        window_latents=9,
        num_steps=20,
        step_shift=3.0,
        expression_guidance=4.0,
        drawing="latents",
        transformer=sizes,
        portrait_encoder=replace(own.portrait_encoder, learned_places=False),
        vae=small_vae(),
    )


def tiny_differences() -> Config:
    """As flashportrait-mini does it, in milliseconds."""
    config = tiny()
    vae = tiny_block_vae()
    return replace(
        config,
        drawing="differences",
        alignment="first",
        transformer=replace(
            config.transformer,
            latent_channels=vae.latent_channels,
            answers="clean",
            motion_tokens=29,
            learned_places=2,
        ),
        portrait_encoder=replace(config.portrait_encoder, learned_places=True),
        vae=vae,
        tiny_vae=None,
    )


def tiny() -> Config:
    """Runs in milliseconds, for tests: windows of 4 latents that share 1, three steps."""
    return Config(
        image_size=32,
        window_latents=4,
        overlap_latents=1,
        num_steps=3,
        step_shift=5.0,
        distilled=False,
        expression_guidance=4.0,
        crop_scale=2.3,
        crop_vy=-0.125,
        drawing="latents",
        alignment="each",
        transformer=tiny_transformer(),
        portrait_encoder=tiny_portrait_encoder(),
        face_features=tiny_face_features(),
        image_encoder=tiny_image_encoder(),
        vae=tiny_vae(),
        tiny_vae=tiny_tiny_vae(),
    )

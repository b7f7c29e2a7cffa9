"""Sizes and options of the LivePortrait family. Sizes have no defaults: they live beside the weights.

Two sets of networks speak this family's motion: `published` (arXiv 2407.03168, weights-compatible) and
`compact` (our small sibling, see config_compact.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vivant.engines.liveportrait.config_compact import (
    NUM_POINTS,
    CompactConfig,
    RetargetingConfig,
    mini_compact,
    tiny_compact,
    tiny_retargeting,
)

Region = Literal["all", "exp", "pose", "lip", "eyes"]

MAX_OPEN = 0.8
"""Widest opening ratio of eyes and lips that the retargeting networks are trained for (paper, section 3.3)."""


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """Widths of the five published networks. Their numbers of blocks are part of the checkpoint format."""

    depth: int
    """Depth cells of the feature volume (16)."""
    volume_channels: int
    """Channels of the feature volume (32)."""
    appearance_channels: tuple[int, int, int]
    """F: widths at 1, 1/2 and 1/4 of the picture (64, 128, 256)."""
    motion_channels: tuple[int, int, int, int]
    """M: widths of the four ConvNeXt V2 stages (96, 192, 384, 768)."""
    num_angle_bins: int
    """M: bins of 3 degrees per head angle (66)."""
    compressed_channels: int
    """W: channels of the volume that is shifted once per keypoint (4)."""
    hourglass_channels: int
    """W: base width of the motion hourglass, doubled at each level (32)."""
    hourglass_max_channels: int
    """W: where the doubling stops (1024)."""
    warped_channels: int
    """W to G: channels of the warped feature map (256)."""
    modulation_channels: int
    """G: hidden width of each SPADE modulation (128)."""
    generator_channels: tuple[int, int, int]
    """G: widths at 1/4, 1/2 and 1 of the network input (512, 256, 64)."""
    stitching_hidden: tuple[int, ...]
    """S: hidden widths of the stitching network (128, 128, 64); all three empty where a checkpoint has none."""
    lip_hidden: tuple[int, ...]
    """S: hidden widths of the lip retargeting network (128, 128, 64)."""
    eye_hidden: tuple[int, ...]
    """S: hidden widths of the eye retargeting network (256, 256, 128, 128, 64)."""

    def __post_init__(self) -> None:
        hidden = [len(h) for h in (self.stitching_hidden, self.lip_hidden, self.eye_hidden)]
        if hidden not in ([3, 3, 5], [0, 0, 0]):
            raise ValueError(
                "stitching and lip networks have 3 hidden layers and the eye network 5, or there are none, got "
                f"{self.stitching_hidden}, {self.lip_hidden}, {self.eye_hidden}"
            )
        if (
            self.depth < 1
            or min(self.appearance_channels + self.motion_channels + self.generator_channels) < 1
        ):
            raise ValueError(f"widths are 1 or more, got {self}")
        wide, half, narrow = self.generator_channels
        if not wide > half > narrow:
            # Blocks of equal widths would have no learned shortcut, so other keys than the published ones.
            raise ValueError(f"generator_channels fall from size to size, got {self.generator_channels}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One checkpoint of this family."""

    networks: Literal["published", "compact"]
    num_keypoints: int
    """Implicit keypoints (21 published)."""
    image_size: int
    """Side in pixels of the crop that the networks see. Published: 256, or another multiple of 128."""
    output_size: int
    """Side in pixels of what `generate` draws. Published: twice image_size."""
    expression_frame: Literal["camera", "head"]
    """Where expression offsets live: added after the head turns (published), or turned with it."""
    camera_distance: float | None
    """Distance of the camera in keypoint units, for perspective; None: orthographic (published)."""
    published: PublishedConfig | None
    compact: CompactConfig | None
    subject: Literal["animal"] | None = None
    """What was trained on: animals (paper, appendix D), or people (None)."""

    def __post_init__(self) -> None:
        if self.subject is not None and self.networks != "published":
            raise ValueError(f"only published networks know animals, got {self.networks!r}")
        sizes = {"published": self.published, "compact": self.compact}
        if [name for name, size in sizes.items() if size is not None] != [self.networks]:
            given = [name for name, size in sizes.items() if size is not None]
            raise ValueError(f"networks is {self.networks!r} but sizes are given for {given}")
        if self.camera_distance is not None and self.camera_distance <= 0:
            raise ValueError(f"camera_distance is positive or None, got {self.camera_distance}")
        if self.published is not None:
            if self.image_size % 128 or self.output_size != 2 * self.image_size:
                raise ValueError(
                    "published networks take a multiple of 128 px and draw twice that, "
                    f"got {self.image_size} and {self.output_size}"
                )
            if (self.expression_frame, self.camera_distance) != ("camera", None):
                raise ValueError(
                    "published networks have camera-frame expression and no perspective, "
                    f"got {self.expression_frame!r} and {self.camera_distance}"
                )


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may change between two frames."""

    relative: bool = True
    """True: the driver's change since its first frame moves the portrait. False: the driver's own pose and
    expression are taken over."""
    region: Region = "all"
    """What the driver moves: everything, expression only, pose only, lips only, or eyes only."""
    driving_multiplier: float = 1.0
    """Gain on the keypoints' distance from the portrait's own, 0 (still) to about 2 (caricature)."""
    driving_option: Literal["pose-friendly", "expression-friendly"] | None = None
    """Relative motion: turns the portrait's own pose (pose-friendly), or moves its points as the driver's move,
    scaled to its size (expression-friendly). [default: pose-friendly; animals: expression-friendly]"""
    relative_to: Literal["first", "neutral"] = "first"
    """Relative motion starts from the driver's first frame, or from a neutral face that looks ahead: right for
    a driver that is one picture."""
    stitching: bool | None = None
    """Keep neck and shoulders where the picture has them. [default: if the preset can]"""
    eye_retargeting: bool = False
    """Close and open the eyes as far as the driver's, measured against each person's own."""
    lip_retargeting: bool = False
    """Close and open the lips as far as the driver's, measured against each person's own."""
    eyes_open: float | None = None
    """Open both eyes this far in every frame: lid distance over eye width, 0 closed to 0.8."""
    lips_open: float | None = None
    """Open the lips this far in every frame: lip distance over mouth width, 0 closed to 0.8."""
    normalize_lip: bool = False
    """Close the lips of a portrait with an open mouth before it is driven."""
    smoothing_ms: float = 80.0
    """Time constant of smoothing while the driver is still, in milliseconds; fast motion passes. 0: none."""
    compatibility: Literal["vivant", "published"] = "vivant"
    """How stitching and retargeting are put together: our way, or exactly as the published program does."""

    def __post_init__(self) -> None:
        for name, ratio in (("eyes_open", self.eyes_open), ("lips_open", self.lips_open)):
            if ratio is not None and not 0 <= ratio <= MAX_OPEN:
                raise ValueError(f"{name} is between 0 and {MAX_OPEN}, got {ratio}")
        choices: tuple[tuple[str, str | None, tuple[str | None, ...]], ...] = (
            ("driving_option", self.driving_option, ("pose-friendly", "expression-friendly", None)),
            ("relative_to", self.relative_to, ("first", "neutral")),
            ("compatibility", self.compatibility, ("vivant", "published")),
        )
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"{name} is {known[0]} or {known[1]}, got {value!r}")
        if not 0 <= self.smoothing_ms <= 1000:
            raise ValueError(f"smoothing_ms is between 0 and 1000, got {self.smoothing_ms}")
        if self.region not in ("all", "exp", "pose", "lip", "eyes"):
            raise ValueError(f"region is all, exp, pose, lip or eyes, got {self.region!r}")
        if not 0 <= self.driving_multiplier <= 4:
            raise ValueError(f"driving_multiplier is between 0 and 4, got {self.driving_multiplier}")

    def moves_points(self, config: Config) -> bool:
        """Whether points move as the driver's move, in relative motion."""
        usual = "pose-friendly" if config.subject is None else "expression-friendly"
        return self.relative and (self.driving_option or usual) == "expression-friendly"

    @property
    def retargets_eyes(self) -> bool:
        return self.eye_retargeting or self.eyes_open is not None

    @property
    def retargets_lips(self) -> bool:
        return self.lip_retargeting or self.lips_open is not None


def published() -> Config:
    """The published checkpoint: 130 M parameters, 256 px in, 512 px out."""
    return _published_networks(
        256,
        PublishedConfig(
            depth=16,
            volume_channels=32,
            appearance_channels=(64, 128, 256),
            motion_channels=(96, 192, 384, 768),
            num_angle_bins=66,
            compressed_channels=4,
            hourglass_channels=32,
            hourglass_max_channels=1024,
            warped_channels=256,
            modulation_channels=128,
            generator_channels=(512, 256, 64),
            stitching_hidden=(128, 128, 64),
            lip_hidden=(128, 128, 64),
            eye_hidden=(256, 256, 128, 128, 64),
        ),
    )


def tiny_published() -> Config:
    """The same keys at a size for tests."""
    return _published_networks(
        128,
        PublishedConfig(
            depth=4,
            volume_channels=2,
            appearance_channels=(4, 4, 4),
            motion_channels=(4, 4, 8, 8),
            num_angle_bins=66,
            compressed_channels=2,
            hourglass_channels=2,
            hourglass_max_channels=8,
            warped_channels=8,
            modulation_channels=4,
            generator_channels=(8, 6, 4),
            stitching_hidden=(8, 8, 8),
            lip_hidden=(8, 8, 8),
            eye_hidden=(8, 8, 8, 8, 8),
        ),
    )


def published_animals() -> Config:
    """The published checkpoint for animals: the same networks, trained on; stitching is that for people, if any."""
    return replace(published(), subject="animal")


def tiny_animals() -> Config:
    """Animals without stitching, at a size for tests."""
    return without_retargeting(replace(tiny_published(), subject="animal"))


def without_retargeting(config: Config) -> Config:
    """The same published networks without those of stage II."""
    if config.published is None:
        raise ValueError("these are the compact networks; leave their retargeting out instead")
    sizes = replace(config.published, stitching_hidden=(), lip_hidden=(), eye_hidden=())
    return replace(config, published=sizes)


def takes_weights(config: Config, found: Config) -> bool:
    """Whether published networks of `config` can be given the weights of `found`; what it has beyond them is left out.

    No weight depends on the size of the pictures or on whom they show.
    """
    if found.published is None:
        return False
    alike = replace(
        found, image_size=config.image_size, output_size=config.output_size, subject=config.subject
    )
    return config in (alike, without_retargeting(alike))


def mini() -> Config:
    """liveportrait-mini: 7.5 M parameters, 256 px in and out."""
    return _compact_networks(256, mini_compact())


def tiny() -> Config:
    """The compact set at a size for tests."""
    return _compact_networks(64, tiny_compact())


def tiny_whole() -> Config:
    """The compact set with stitching and retargeting, at a size for tests."""
    return with_retargeting(tiny(), tiny_retargeting())


def with_retargeting(config: Config, sizes: RetargetingConfig) -> Config:
    """The same compact networks, with the networks of stage II."""
    if config.compact is None:
        raise ValueError("published networks have their own stitching and retargeting")
    return replace(config, compact=replace(config.compact, retargeting=sizes))


def _compact_networks(image_size: int, sizes: CompactConfig) -> Config:
    return Config(
        networks="compact",
        num_keypoints=NUM_POINTS,
        image_size=image_size,
        output_size=image_size,
        expression_frame="head",
        camera_distance=10.0,  # units of 10 cm: the studio's cameras stand about one metre away
        published=None,
        compact=sizes,
    )


def _published_networks(image_size: int, sizes: PublishedConfig) -> Config:
    return Config(
        networks="published",
        num_keypoints=21,
        image_size=image_size,
        output_size=2 * image_size,
        expression_frame="camera",
        camera_distance=None,
        published=sizes,
        compact=None,
    )

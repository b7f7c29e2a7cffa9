"""Sizes of the compact networks: the sibling set that runs in real time on a CPU."""

from __future__ import annotations

from dataclasses import dataclass

NUM_POINTS = 81
"""Keypoints of the compact networks; `points` names them. Here because the command line reads configs without torch."""


@dataclass(frozen=True, kw_only=True)
class RetargetingConfig:
    """Hidden widths of the two small networks of stage II."""

    eye_hidden: tuple[int, ...]
    lip_hidden: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CompactConfig:
    """Every width of the compact motion and generation networks. No defaults: a checkpoint says what it is."""

    pose_channels: tuple[int, ...]
    """Widths of the strided stages of the whole-face network; the first halves the picture once."""
    pose_image_size: int
    """Side in pixels of the picture that the whole-face network sees (the crop is shrunk to it)."""
    local_channels: tuple[int, ...]
    """Widths of the strided stages of the mouth and eye networks."""
    local_image_size: int
    """Side in pixels of the pose-normalised mouth and eye crops."""
    hidden: int
    """Width of the layer between features and motion, in all three motion networks."""
    num_expression_weights: int
    """Blendshape weights that the local networks also report (training aid and measure; 53 for ARKit)."""
    encoder_channels: tuple[int, int, int, int]
    """Appearance widths at 1, 1/2, 1/4 and 1/8 of the crop."""
    flow_channels: tuple[int, ...]
    """Widths of the flow hourglass, from 1/4 of the crop downwards."""
    flow_sigmas: tuple[float, ...]
    """Radii of the keypoint flows that the hourglass mixes, in units of the crop (whole crop = 2)."""
    decoder_channels: tuple[int, int, int, int]
    """Decoder widths at 1, 1/2, 1/4 and 1/8 of the crop."""
    num_decoder_blocks: int
    """Residual blocks at 1/8 of the crop."""
    retargeting: RetargetingConfig | None = None
    """Retargeting networks; None in checkpoints that never saw stage II."""

    def __post_init__(self) -> None:
        if len(self.pose_channels) < 2 or len(self.local_channels) < 2:
            raise ValueError(
                f"motion networks need two stages or more, got {self.pose_channels} and {self.local_channels}"
            )
        if any(sigma <= 0 for sigma in self.flow_sigmas):
            raise ValueError(f"flow_sigmas must be positive, got {self.flow_sigmas}")


def mini_compact() -> CompactConfig:
    """The shipped liveportrait-mini: 7 M parameters, about 6 GFLOP per frame at 256x256."""
    return CompactConfig(
        pose_channels=(24, 48, 96, 144, 192),
        pose_image_size=128,
        local_channels=(24, 40, 72, 112),
        local_image_size=48,
        hidden=256,
        num_expression_weights=53,
        encoder_channels=(12, 32, 64, 128),
        flow_channels=(40, 72, 112, 152),
        flow_sigmas=(0.05, 0.12, 0.35),
        decoder_channels=(16, 32, 64, 144),
        num_decoder_blocks=3,
    )


def mini_retargeting() -> RetargetingConfig:
    """900 parameters: what they correct is a handful of numbers."""
    return RetargetingConfig(eye_hidden=(16, 16), lip_hidden=(16, 16))


def tiny_retargeting() -> RetargetingConfig:
    """A size for tests."""
    return RetargetingConfig(eye_hidden=(8,), lip_hidden=(8,))


def tiny_compact() -> CompactConfig:
    """A size for tests: everything present, nothing wide."""
    return CompactConfig(
        pose_channels=(4, 8, 8),
        pose_image_size=32,
        local_channels=(4, 8),
        local_image_size=16,
        hidden=16,
        num_expression_weights=53,
        encoder_channels=(4, 4, 8, 8),
        flow_channels=(8, 8, 8),
        flow_sigmas=(0.05, 0.35),
        decoder_channels=(4, 8, 8, 8),
        num_decoder_blocks=1,
    )

"""Smoothing of a driver's motion as it streams: a still head stands still, a blink stays a blink."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.motion import Motion
from vivant.ops.following import follow, follow_rotation

ROTATION_STEP = math.radians(0.75)
SCALE_STEP = 0.01
PLACE_STEP = 0.0075
"""Changes between frames that are taken for noise: radians, share of the size, crop units."""
EXPRESSION_STEPS = {"published": 0.002, "compact": 0.005}
"""The same for each keypoint's expression, in the units of the networks."""
OPENNESS_STEP = 0.03


def steady(
    smoothed: Motion, new: Motion, config: Config, *, time_constant_seconds: float, frame_rate_hz: float
) -> Motion:
    """The next smoothed motion (one frame) after `smoothed` (one frame). The neutral shape is not smoothed."""
    ratio = 1 / (frame_rate_hz * time_constant_seconds)

    def opened(before: Tensor | None, now: Tensor | None) -> Tensor | None:
        if before is None or now is None:
            return now
        return follow(before[..., None], now[..., None], OPENNESS_STEP, ratio)[..., 0]

    return replace(
        new,
        rotation=follow_rotation(smoothed.rotation, new.rotation, ROTATION_STEP, ratio),
        expression=follow(smoothed.expression, new.expression, EXPRESSION_STEPS[config.networks], ratio),
        scale=smoothed.scale
        * torch.exp(follow(0 * new.scale, (new.scale / smoothed.scale).log(), SCALE_STEP, ratio)),
        translation=follow(smoothed.translation, new.translation, PLACE_STEP, ratio),
        eyes_open=opened(smoothed.eyes_open, new.eyes_open),
        lips_open=opened(smoothed.lips_open, new.lips_open),
    )

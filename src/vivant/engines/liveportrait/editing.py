"""Controls become Motion: where the head goes, and what each set of networks makes of an expression.

What comes out is absolute for the portrait at hand and enters `render` after `refer(portrait.motion)`, as any driver
does. Legend: K keypoints.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from vivant.controls import Controls
from vivant.engines.liveportrait import editing_compact, editing_published
from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.motion import Motion, expression_gain, keypoints
from vivant.engines.liveportrait.retargeting import RetargetingNetworks
from vivant.ops.rotation import rotation_from_degrees

SPREAD = 0.085
"""How far around a keypoint an edit is seen, crop units."""
TAIL = 0.1
"""What is seen less than this is not seen."""
SEEN = 0.004
"""Keypoints that move less, half a pixel of 256, change nothing; crop units."""


def edited(
    networks: RetargetingNetworks,
    source: Motion,
    source_keypoints: Tensor,
    controls: Controls,
    config: Config,
    tilt: float,
) -> Motion:
    """The portrait's motion (one frame) under the controls.

    tilt: radians, clockwise, that the crop is turned against the picture, so that x and y are the picture's.
    Raises InputError for what the networks cannot do.
    """
    if config.networks == "compact":
        expression = editing_compact.expression(source, controls)
    else:
        expression = editing_published.expression(networks, source, source_keypoints, controls)
    # `drive` multiplies a driver's changes by these gains; an edit says what it wants.
    gain = expression_gain(config).to(expression.device)
    # The networks count yaw and roll the other way round than viewers.
    angles = (controls.pitch, -controls.yaw, -controls.roll)
    turn = rotation_from_degrees(*(source.scale.new_tensor([angle]) for angle in angles))
    cos, sin = math.cos(tilt), math.sin(tilt)
    along = (cos * controls.x + sin * controls.y, cos * controls.y - sin * controls.x, 0.0)
    return replace(
        source,
        rotation=source.rotation @ turn,
        expression=source.expression + (expression - source.expression) / gain,
        scale=source.scale * (1 + controls.scale),
        translation=source.translation + 2 * source.scale.new_tensor([along]),
    )


def touched(source: Motion, driven: Motion, config: Config, size_px: int) -> Tensor:
    """(1, size_px, size_px) in [0, 1]: where keypoints that move from `source` to `driven` (one frame each) show it."""
    before, after = (keypoints(motion, motion.canonical, config)[0, :, :2] for motion in (source, driven))
    moved = ((after - before).norm(dim=-1) / SEEN - 0.5).clamp(0, 1)
    axis = (torch.arange(size_px, device=before.device) + 0.5) * (2 / size_px) - 1
    seen = axis.new_zeros(size_px, size_px)
    for centres in (before, after, (before + after) / 2):
        across = ((axis[None] - centres[:, :1]) / SPREAD).square()
        down = ((axis[None] - centres[:, 1:]) / SPREAD).square()
        # Separable: weight times a Gaussian in y times one in x, summed over keypoints.
        seen = seen + torch.exp(-down).mul(moved[:, None]).T @ torch.exp(-across)
    return ((2 * seen - TAIL) / (1 - TAIL)).clamp(0, 1)[None]

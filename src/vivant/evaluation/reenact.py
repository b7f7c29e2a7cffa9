"""Self-reenactment with the liveportrait family: the same person drives the portrait, so everything is taken over.

`Options(relative=False)` is nearly this, but keeps the portrait's own scale (right between two people). Between two
pictures of one person in one crop the driver's scale belongs to the motion, so the networks are called directly:
rotation, expression, scale and translation of the driver on the neutral shape of the source.

Letters: T pictures, K keypoints, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engine import Engine
from vivant.engines.liveportrait.engine import LivePortrait, Networks
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.errors import InputError
from vivant.runtime import precision


@dataclass(frozen=True)
class Seen:
    """What the motion networks say about T pictures."""

    motion: Motion
    keypoints: Tensor
    """(T, K, 3), crop units, of the pictures' own neutral shape."""
    weights: Tensor | None
    """(T, E) blendshape weights; None for networks that do not report them."""

    @property
    def is_named(self) -> bool:
        """Whether the keypoints are the 81 that have names (compact networks)."""
        return self.weights is not None


def as_liveportrait(engine: Engine) -> LivePortrait:
    """The engine, if this protocol knows how to drive it. Raises InputError otherwise."""
    if not isinstance(engine, LivePortrait):
        raise InputError(f"self-reenactment is defined for the family liveportrait, not for {engine.family}")
    return engine


def resized(frames: Tensor, size_px: int) -> Tensor:
    """Frames (T, 3, H, W) at (T, 3, size, size), float32; bilinear with antialiasing where the size differs."""
    if frames.shape[-2:] == (size_px, size_px):
        return frames.float()
    size = (size_px, size_px)
    return F.interpolate(frames.float(), size=size, mode="bilinear", align_corners=False, antialias=True)


@torch.no_grad()
def look_at(engine: LivePortrait, pictures: Tensor) -> Seen:
    """Motion, keypoints and weights of pictures (T, 3, H, W) in [0, 1]."""
    images = resized(pictures, engine.config.image_size).to(engine.device)
    weights = None
    with precision.computing(engine.device, engine.dtype):
        if isinstance(engine.networks, CompactNetworks):
            # As the engine looks itself (CompactNetworks.motion): where things are needs float32.
            with torch.autocast(engine.device.type, enabled=False):
                seen = engine.networks.describe(images)
                motion = seen.as_motion()
            weights = seen.weights.cpu()
        else:
            motion = cast("Networks", engine.networks).motion(images)
    motion = motion.to(dtype=torch.float32)
    return Seen(motion, keypoints(motion, motion.canonical, engine.config).cpu(), weights)


@torch.no_grad()
def draw(engine: LivePortrait, source: Tensor, motion: Motion, driving: Motion) -> tuple[Tensor, Tensor]:
    """The source (1, 3, H, W), which shows `motion` (one frame), under `driving` (T frames).

    The motions may lie on any device: a renderer's labels lie on the CPU. Returns, on the CPU,
    frames (T, 3, S', S') in [0, 1] as an eight-bit file would hold them, and keypoints (T, K, 3).
    """
    config = engine.config
    networks = cast("Networks", engine.networks)
    motion, driving = motion.to(engine.device), driving.to(engine.device)
    driven = replace(driving, canonical=motion.repeat(len(driving)).canonical)
    where_source = keypoints(motion, motion.canonical, config)
    where = keypoints(driven, driven.canonical, config)
    with precision.computing(engine.device, engine.dtype):
        appearance = networks.appearance(resized(source, config.image_size).to(engine.device))
        frames = [
            networks.generate(tuple(appearance), where_source, where[i : i + 1], motion, driven[i]).float()
            for i in range(len(driven))
        ]
    return as_stored(torch.cat(frames)).cpu(), where.cpu()


def as_stored(frames: Tensor) -> Tensor:
    """Frames in [0, 1], rounded to 255 levels."""
    return (frames.clamp(0, 1) * 255).round() / 255

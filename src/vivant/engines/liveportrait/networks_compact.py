"""The compact sibling of the published networks: same four methods, real time on a CPU.

motion_compact says what a picture does, generator_compact draws; this file joins them to the family's words.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.generator_compact import (
    Appearance,
    CompactGenerator,
    motion_code,
    shoulders_still,
)
from vivant.engines.liveportrait.layers_compact import ConvNormAct, Up
from vivant.engines.liveportrait.motion import Motion, keypoints
from vivant.engines.liveportrait.motion_compact import CompactMotion, CompactMotionNetwork
from vivant.engines.liveportrait.points import openness
from vivant.engines.liveportrait.retargeting_compact import CompactRetargeting


class CompactNetworks(nn.Module):
    """Motion network and generator."""

    def __init__(self, config: Config):
        super().__init__()
        if config.compact is None or config.camera_distance is None:
            raise ValueError("compact networks need compact sizes and a camera distance")
        self.config = config
        self.motion_network = CompactMotionNetwork(config.compact, config.camera_distance)
        self.generator = CompactGenerator(config.compact)
        sizes = config.compact.retargeting
        self.retargeting = CompactRetargeting(sizes) if sizes is not None else None

    def appearance(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, S, S) in [0, 1] -> what the generator keeps of it (see Appearance)."""
        return self.generator.encoder(image)

    def describe(self, image: Tensor) -> CompactMotion:
        """(B, 3, S, S) in [0, 1] -> motion, blendshape weights and gaze."""
        return self.motion_network(image)

    def motion(self, image: Tensor) -> Motion:
        """(B, 3, S, S) in [0, 1] -> Motion of B frames."""
        with torch.autocast(image.device.type, enabled=False):
            return self.describe(image.float()).as_motion()

    @property
    def has_retargeting(self) -> bool:
        return self.retargeting is not None

    @property
    def has_stitching(self) -> bool:
        return True

    def stitch(self, source: Tensor, driven: Tensor) -> Tensor:
        """x_d as it is: these keypoints are all on the head, and `generate` holds the shoulders."""
        return driven

    def retarget(
        self,
        source: Motion,
        source_keypoints: Tensor,
        driven: Motion,
        eyes: Tensor | None,
        lips: Tensor | None,
    ) -> tuple[Motion, Tensor]:
        """Eyes (T, 2) and lips (T, 1) opened so far; see retargeting.RetargetingNetworks.

        Named points say how open the driven eyes and lips are, so neither the source nor an estimate is needed.
        """
        assert self.retargeting is not None, "callers ask has_retargeting first"
        shape = driven.canonical + driven.expression
        right, left, mouth = openness(shape)
        offset = torch.zeros_like(shape)
        with torch.autocast(shape.device.type, enabled=False):
            if eyes is not None:
                offset = offset + self.retargeting.open_eyes(shape, torch.stack([right, left], 1), eyes)
            if lips is not None:
                offset = offset + self.retargeting.open_lips(shape, mouth[:, None], lips)
        changed = replace(
            driven,
            expression=driven.expression + offset,
            eyes_open=driven.eyes_open if eyes is None else eyes,
            lips_open=driven.lips_open if lips is None else lips,
        )
        before, after = (keypoints(motion, motion.canonical, self.config) for motion in (driven, changed))
        return changed, after - before

    def retargeting_calls(self, source: Tensor, driven: Tensor) -> dict[str, tuple[Tensor, ...]]:
        """Example calls of the two small networks, for points (1, K, 3); none where there are none."""
        if self.retargeting is None:
            return {}
        now, wanted = source.new_full((1, 2), 0.3), source.new_full((1, 2), 0.2)
        return {
            "retargeting.open_eyes": (source, now, wanted),
            "retargeting.open_lips": (source, now[:, :1], wanted[:, :1]),
        }

    def generate(
        self,
        appearance: tuple[Tensor, ...],
        keypoints_source: Tensor,
        keypoints_driving: Tensor,
        source: Motion,
        driving: Motion,
        held: Tensor | None = None,
    ) -> Tensor:
        """Appearance of one portrait and keypoints (B, K, 3) -> (B, 3, S, S) in [0, 1].

        held: (1, 1), 1 where shoulders stay in their place, 0 (and None) where they follow.
        """
        count = len(keypoints_driving)
        still = None
        if held is not None:
            side = appearance[0].shape[-1] // 2
            still = held[..., None, None] * shoulders_still(keypoints_source, keypoints_driving, side)

        def spread(x: Tensor) -> Tensor:
            return x.expand(count, *x.shape[1:]) if len(x) == 1 else x

        return self.generator(
            Appearance(*(spread(x) for x in appearance)),
            spread(keypoints_source),
            keypoints_driving,
            spread(motion_code(source.rotation, source.expression)),
            motion_code(driving.rotation, driving.expression),
            still,
        ).image

    @torch.no_grad()
    def fold(self) -> None:
        """Merge every batch norm into the convolution before it: same numbers up to rounding, in eval mode."""
        for module in self.modules():
            if isinstance(module, ConvNormAct) and isinstance(module[1], nn.BatchNorm2d):
                conv, norm = module[0], module[1]
                assert isinstance(conv, nn.Conv2d)
                module[0] = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                module[1] = nn.Identity()
            elif isinstance(module, Up) and isinstance(module.norm, nn.BatchNorm2d):
                module.fold()

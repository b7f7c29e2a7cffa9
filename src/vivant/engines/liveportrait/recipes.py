"""Training runs of the family, each a function that returns everything the trainer needs but the data.

liveportrait-mini is `mini_motion`, then `mini_generator` at 128 px, then `mini_finish` at 256 px, each starting
from the export of the one before (`vivant train NAME --init FOLDER`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vivant.engines.liveportrait.config import Config
from vivant.engines.liveportrait.config_compact import CompactConfig, mini_compact, tiny_compact
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.stages import CompactStage, GeneratorStage, MotionStage
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.portraits import statistics

CAMERA_DISTANCE = 10.0
"""The keypoint model's camera, in units of 10 cm: about one metre."""


def compact_config(sizes: CompactConfig, image_size: int) -> Config:
    """A Config of the compact set."""
    return Config(
        networks="compact",
        num_keypoints=81,
        image_size=image_size,
        output_size=image_size,
        expression_frame="head",
        camera_distance=CAMERA_DISTANCE,
        published=None,
        compact=sizes,
    )


@dataclass(frozen=True)
class Recipe:
    """A TrainConfig, the architecture, and the stage that trains it."""

    train: TrainConfig
    config: Config
    stage: type[CompactStage]

    def build(
        self,
        sessions: Sequence[Session],
        backgrounds: np.ndarray,
        networks: CompactNetworks | None = None,
    ) -> CompactStage:
        """The stage, its networks started from `networks` or from scratch with the data's statistics."""
        stage = self.stage(self.config, sessions, backgrounds, networks)
        if networks is None:
            set_statistics(stage.networks, sessions)
        if isinstance(stage, GeneratorStage):
            stage.configure(self.train)
        return stage


def set_statistics(networks: CompactNetworks, sessions: Sequence[Session]) -> None:
    """Write mean shape, spreads and the roles of the blendshape weights into the motion network's buffers."""
    motion = networks.motion_network
    for name, value in statistics(sessions).items():
        getattr(motion, name).copy_(torch.from_numpy(value))
    names = sessions[0].info.expression_names
    for i, name in enumerate(names):
        motion.eye_weights[i] = name.startswith(("eye", "brow"))
        twin = name[:-2] + {"_L": "_R", "_R": "_L"}.get(name[-2:], name[-2:])
        motion.mirrored_weights[i] = names.index(twin)


MOTION_GROUPS = (
    ParameterGroup(
        modules=(
            "motion_network.pose.trunk.hidden",
            "motion_network.pose.trunk.norm",
            "motion_network.pose.head",
        ),
        learning_rate=3e-4,
    ),
    ParameterGroup(modules=("motion_network",), learning_rate=8e-4),
)


def mini_motion() -> Recipe:
    """Motion networks of liveportrait-mini: single pictures at 192 px."""
    train = TrainConfig(
        name="mini_motion",
        num_images=120_000,
        batch_size=64,
        groups=MOTION_GROUPS,
        warmup_images=4000,
        extra={"size_px": 192, "turn": 0.14},
    )
    return Recipe(train, compact_config(mini_compact(), 256), MotionStage)


def mini_generator() -> Recipe:
    """Generator of liveportrait-mini at 128 px, on the renderer's motion with a little prediction at the end."""
    train = TrainConfig(
        name="mini_generator",
        num_images=90_000,
        batch_size=16,
        groups=(ParameterGroup(modules=("generator",), learning_rate=8e-4),),
        warmup_images=1600,
        extra={"size_px": 128, "predicted_start": 0.0, "predicted_end": 0.6},
    )
    return Recipe(train, compact_config(mini_compact(), 256), GeneratorStage)


def mini_finish() -> Recipe:
    """Last stage at 256 px, mostly on predicted motion, with mouth and eyes re-read by the motion networks."""
    train = TrainConfig(
        name="mini_finish",
        num_images=16_000,
        batch_size=8,
        groups=(ParameterGroup(modules=("generator",), learning_rate=3e-4),),
        warmup_images=400,
        extra={"size_px": 256, "predicted_start": 0.6, "predicted_end": 0.8, "critic_weight": 0.5},
    )
    return Recipe(train, compact_config(mini_compact(), 256), GeneratorStage)


def debug_motion() -> Recipe:
    """Seconds on a CPU; the loss goes down. For tests."""
    train = TrainConfig(
        name="debug_motion",
        num_images=160,
        batch_size=8,
        groups=(ParameterGroup(modules=("motion_network",), learning_rate=2e-3),),
        warmup_images=16,
        log_steps=5,
        num_workers=0,
        extra={"size_px": 64, "turn": 0.1},
    )
    return Recipe(train, compact_config(tiny_compact(), 64), MotionStage)


def debug_generator() -> Recipe:
    """Seconds on a CPU; the loss goes down. For tests."""
    train = TrainConfig(
        name="debug_generator",
        num_images=80,
        batch_size=4,
        groups=(ParameterGroup(modules=("generator",), learning_rate=2e-3),),
        warmup_images=8,
        log_steps=5,
        num_workers=0,
        extra={"size_px": 64, "critic_weight": 0.1, "predicted_end": 0.5},
    )
    return Recipe(train, compact_config(tiny_compact(), 64), GeneratorStage)


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__: f for f in (mini_motion, mini_generator, mini_finish, debug_motion, debug_generator)
}

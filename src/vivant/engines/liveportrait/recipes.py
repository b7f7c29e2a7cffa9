"""Training runs of the family, each a function that returns everything the trainer needs but the data.

liveportrait-mini is `mini_motion`, then `mini_generator` at 128 px, then `mini_finish` at 256 px, each starting
from the export of the one before (`vivant train NAME --init FOLDER`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivant import checkpoint
from vivant.engines.liveportrait.config import (
    Config,
    mini,
    published,
    takes_weights,
    tiny,
    tiny_animals,
    tiny_published,
    without_retargeting,
)
from vivant.engines.liveportrait.config import published_animals as animals
from vivant.engines.liveportrait.losses import Embedding, Features
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.recipes_stage2 import (
    RetargetingRecipe,
    debug_stage2,
    mini_stage2,
    mini_stage2_gpu,
    published_stage2,
)
from vivant.engines.liveportrait.stages import CompactStage, GeneratorStage, MotionStage
from vivant.engines.liveportrait.stages_published import AnimalStage, PublishedStage, term_weights
from vivant.engines.liveportrait.voice_training import VoiceRecipe, debug_voice, voice
from vivant.face.identity import load_identity
from vivant.presets import find_checkpoint
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.clips import Clip, find_clips
from vivant.training.data.portraits import statistics
from vivant.training.data.sessions import FromSessions, find_sessions


@dataclass(frozen=True)
class Recipe(FromSessions):
    """A TrainConfig, the architecture, and the stage that trains it."""

    train: TrainConfig
    config: Config
    stage: type[CompactStage]

    def build(
        self,
        sessions: Sequence[Session],
        backgrounds: np.ndarray,
        init: Path | None = None,
    ) -> CompactStage:
        """The stage; its networks start from the checkpoint `init`, or at random with the data's statistics."""
        networks = CompactNetworks(self.config)
        if init is None:
            set_statistics(networks, sessions)
        else:
            loaded = checkpoint.load_same(init, self.config, CompactNetworks, self.train.name)
            networks.load_state_dict(loaded.state_dict())
        stage = self.stage(self.config, sessions, backgrounds, networks)
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
        num_images=100_000,
        batch_size=64,
        groups=MOTION_GROUPS,
        warmup_images=4000,
        extra={"size_px": 192, "turn": 0.14},
    )
    return Recipe(train, mini(), MotionStage)


def mini_generator() -> Recipe:
    """Generator of liveportrait-mini at 128 px, on the renderer's motion with a little prediction at the end."""
    train = TrainConfig(
        name="mini_generator",
        num_images=60_000,
        batch_size=16,
        groups=(ParameterGroup(modules=("generator",), learning_rate=8e-4),),
        warmup_images=1600,
        extra={
            "size_px": 128,
            "contrast": 0.5,
            "near": 0.6,
            "predicted_start": 0.0,
            "predicted_end": 0.6,
            "critic_weight": 0.5,
        },
    )
    return Recipe(train, mini(), GeneratorStage)


def mini_finish() -> Recipe:
    """Last stage at 256 px, mostly on predicted motion, with mouth and eyes re-read by the motion networks."""
    train = TrainConfig(
        name="mini_finish",
        num_images=11_000,
        batch_size=8,
        groups=(ParameterGroup(modules=("generator",), learning_rate=3e-4),),
        warmup_images=400,
        extra={
            "size_px": 256,
            "contrast": 0.5,
            "near": 0.6,
            "predicted_start": 0.4,
            "predicted_end": 0.7,
            "critic_weight": 2.0,
            "region_gain": 8.0,
        },
    )
    return Recipe(train, mini(), GeneratorStage)


def _on_gpu(recipe: Recipe, num_images: int, batch_size: int, learning_rate: float) -> Recipe:
    """The same stage, longer and in bigger batches, fed by as many workers as one GPU host has cores to spare."""
    groups = tuple(
        replace(group, learning_rate=group.learning_rate * learning_rate) for group in recipe.train.groups
    )
    train = replace(
        recipe.train,
        name=recipe.train.name + "_gpu",
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        warmup_images=num_images // 100,
        ema_decay=0.9995,
        num_workers=14,
        checkpoint_minutes=2.0,
    )
    return replace(recipe, train=train)


def mini_motion_gpu() -> Recipe:
    """`mini_motion`, 20 times as long. Not run yet."""
    return _on_gpu(mini_motion(), 2_000_000, 512, 1.5)


def mini_generator_gpu() -> Recipe:
    """`mini_generator`, 10 times as long. Not run yet."""
    return _on_gpu(mini_generator(), 600_000, 96, 1.2)


def mini_finish_gpu() -> Recipe:
    """`mini_finish`, 30 times as long. Not run yet."""
    return _on_gpu(mini_finish(), 300_000, 48, 1.2)


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
    return Recipe(train, tiny(), MotionStage)


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
    return Recipe(train, tiny(), GeneratorStage)


@dataclass(frozen=True)
class PublishedRecipe(FromSessions):
    """Stage I of the paper, with frozen networks of our own where the paper uses pretrained ones."""

    train: TrainConfig
    config: Config
    stage: type[PublishedStage] = PublishedStage

    def build(
        self, sessions: Sequence[Session], backgrounds: np.ndarray, init: Path | None = None
    ) -> PublishedStage:
        weights = term_weights(self.train)
        networks = PublishedNetworks(self.config)
        if init is not None:
            fits = partial(takes_weights, self.config)
            loaded = checkpoint.load_same(init, self.config, PublishedNetworks, self.train.name, fits)
            own = networks.state_dict().keys()  # animals have no stitching to be trained on
            networks.load_state_dict({k: v for k, v in loaded.state_dict().items() if k in own})
        return self.stage(
            self.config,
            sessions,
            backgrounds,
            networks,
            features=studio_features()
            if any(weights[n] for n in weights if "perceptual" in n)
            else no_features,
            embed=studio_identity() if weights["face_identity"] else no_features,
            settings=self.train,
        )


@dataclass(frozen=True)
class AnimalRecipe(PublishedRecipe):
    """Appendix D of the paper: stage I goes on, on animals and people, without what is true of people only."""

    stage: type[PublishedStage] = AnimalStage

    def find_data(self, folder: Path) -> Sequence[Session | Clip]:
        """Sessions, and the clips in `folder`/animals. Raises InputError where there are none of either."""
        return [*find_sessions(folder, held_out=False), *find_clips(folder / "animals")]

    def build(
        self, data: Sequence[Session | Clip], backgrounds: np.ndarray, init: Path | None = None
    ) -> PublishedStage:
        stage = super().build([item for item in data if isinstance(item, Session)], backgrounds, init)
        assert isinstance(stage, AnimalStage)
        stage.clips = [item for item in data if not isinstance(item, Session)]
        return stage


def no_features(image: Tensor) -> NoReturn:
    """Stands where a recipe switched the term off."""
    raise AssertionError("this term is switched off and must not be computed")


def studio_features() -> Features:
    """Feature maps of our own motion network (trained on studio people), at its picture size, frozen."""
    folder = find_checkpoint("liveportrait-mini")
    _, networks = checkpoint.load(folder, Config, CompactNetworks)
    assert isinstance(networks, CompactNetworks)
    pose = networks.requires_grad_(False).motion_network.pose
    side = networks.motion_network.config.pose_image_size

    def features(image: Tensor) -> Sequence[Tensor]:
        small = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return pose.to(image.device).trunk.features(small)[:4]

    return features


def studio_identity() -> Embedding:
    """Our own identity embedding (trained on studio people), frozen."""
    network = load_identity().requires_grad_(False)

    def embed(image: Tensor) -> Tensor:
        return network.to(image.device)(image)

    return embed


def published_stage1() -> PublishedRecipe:
    """Published size. For many GPUs: the paper took 8 A100 about ten days (batch 104, Adam 2e-4, 0.5/0.999)."""
    train = TrainConfig(
        name="published_stage1",
        num_images=50_000_000,
        batch_size=13,
        groups=(ParameterGroup(modules=("",), learning_rate=2e-4, weight_decay=0.0),),
        betas=(0.5, 0.999),
        num_workers=8,
        sharding="fsdp",
        extra={"size_px": 512},
    )
    return PublishedRecipe(train, published())


NOT_OF_ANIMALS = {"head_pose": 0.0, "gan_lip": 0.0, "face_identity": 0.0}
"""L_H, the lip GAN and L_faceid: the terms that appendix D drops."""


def published_animals() -> AnimalRecipe:
    """Published size; start from the human checkpoint (--init). Length, rate and share are ours. Not run yet."""
    stage1 = published_stage1().train
    train = replace(
        stage1,
        name="published_animals",
        num_images=2_000_000,
        groups=(ParameterGroup(modules=("",), learning_rate=5e-5, weight_decay=0.0),),
        extra=stage1.extra | {"weights": NOT_OF_ANIMALS, "animal_share": 0.5},
    )
    return AnimalRecipe(train, without_retargeting(animals()))


def debug_animals() -> AnimalRecipe:
    """Seconds on a CPU, with the terms that need no other network. For tests."""
    debug = debug_published_stage1().train
    weights = debug.extra["weights"] | NOT_OF_ANIMALS
    extra = debug.extra | {"weights": weights, "animal_share": 0.5}
    return AnimalRecipe(replace(debug, name="debug_animals", extra=extra), tiny_animals())


def debug_published_stage1() -> PublishedRecipe:
    """Seconds on a CPU, every term that needs no other network switched on. For tests."""
    off = {"perceptual": 0.0, "perceptual_face": 0.0, "perceptual_lip": 0.0, "face_identity": 0.0}
    train = TrainConfig(
        name="debug_published_stage1",
        num_images=24,
        batch_size=2,
        groups=(ParameterGroup(modules=("",), learning_rate=1e-3, weight_decay=0.0),),
        warmup_images=2,
        log_steps=1,
        num_workers=0,
        precision="fp32",
        extra={"size_px": 256, "weights": off, "discriminator_width": 4},
    )
    return PublishedRecipe(train, tiny_published())


RECIPES: dict[str, Callable[[], Recipe | PublishedRecipe | RetargetingRecipe | VoiceRecipe]] = {
    f.__name__: f
    for f in (
        mini_motion,
        mini_generator,
        mini_finish,
        mini_motion_gpu,
        mini_generator_gpu,
        mini_finish_gpu,
        published_stage1,
        published_animals,
        debug_motion,
        debug_generator,
        debug_published_stage1,
        debug_animals,
        mini_stage2,
        mini_stage2_gpu,
        published_stage2,
        debug_stage2,
        voice,
        debug_voice,
    )
}

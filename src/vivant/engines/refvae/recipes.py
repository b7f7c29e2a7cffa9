"""Training runs of the family, each a function that returns everything the trainer needs but the data.

In this order, each from the export of the one before (`vivant train NAME --init FOLDER`), on the clips of
`vivant studio talk`. At the paper's size: `full_vae_256x5`, `_256x17`, `_256x73`, `_512x17`, `_512x73`, `full_sync`,
`full_generator`, `full_student`, none of which has been run; small: `mini_vae_1`, `_5`, `_17`, `_41`, `mini_sync`,
`mini_generator`, `mini_decoder`, `mini_student`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivant import checkpoint
from vivant.engines.refvae.config import Config, full, mini, tiny
from vivant.engines.refvae.losses import Features
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.stages import GeneratorStage, RefVaeStage, SyncStage, VaeStage
from vivant.engines.refvae.stages_student import StudentStage
from vivant.face.identity import IdentityNetwork, load_identity
from vivant.training.config import ParameterGroup, TrainConfig, count_parameters
from vivant.training.data.sessions import find_talking_clips


@dataclass(frozen=True)
class Recipe:
    """A TrainConfig, the architecture, and the stage that trains it."""

    train: TrainConfig
    config: Config
    stage: type[RefVaeStage]
    perceptual: Callable[[], Features] | None = None
    """Makes the network whose features the VAE's perceptual term compares."""

    def find_data(self, folder: Path) -> Sequence[Path]:
        """Talking clips."""
        return find_talking_clips(folder)

    def build(self, data: Sequence[Path], backgrounds: np.ndarray, init: Path | None = None) -> RefVaeStage:
        """The stage; its networks start from the checkpoint `init`, or at random. Clips bring their backgrounds."""
        networks = Networks(self.config)
        if init is not None:
            loaded = checkpoint.load_same(init, self.config, Networks, self.train.name)
            networks.load_state_dict(loaded.state_dict())
        features = None if self.perceptual is None else self.perceptual()
        stage = self.stage(self.config, networks, data, self.train, features)
        if init is None:
            stage.begin()
        return stage

    def dry_run(self) -> dict[str, int]:
        """Parameters in all and trained, without memory for them. Raises ValueError for groups that name nothing."""
        with torch.device("meta"):
            stage = self.stage(self.config, Networks(self.config), [], self.train)
        return count_parameters(stage.network, self.train.groups)


def studio_features() -> Features:
    """Feature maps of our own identity network; the paper has VGG's.

    Raises CheckpointError where it is not embedded.
    """
    return features_of(load_identity())


def features_of(network: IdentityNetwork) -> Features:
    """Its feature maps, frozen."""
    network.requires_grad_(False)

    def features(image: Tensor) -> Sequence[Tensor]:
        side = network.IMAGE_SIZE
        x = F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        maps = []
        for stage in network.to(image.device).stages:
            x = stage(x)
            maps.append(x)
        return maps

    return features


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One step of the VAE's progressive schedule."""

    size_px: int
    num_frames: int
    batch_size: int
    """Over all processes."""
    num_steps: int
    learning_rate: float = 1e-5
    final_learning_rate: float = 1.0


_SCHEDULE = (
    _Step(
        size_px=256,
        num_frames=5,
        batch_size=512,
        num_steps=400_000,
        learning_rate=1e-4,
        final_learning_rate=0.1,
    ),
    _Step(size_px=256, num_frames=17, batch_size=256, num_steps=80_000),
    _Step(size_px=256, num_frames=73, batch_size=128, num_steps=80_000),
    # "The last two stages" again at 512 px, 40,000 steps in all: read as half each.
    _Step(size_px=512, num_frames=17, batch_size=256, num_steps=20_000),
    _Step(size_px=512, num_frames=73, batch_size=128, num_steps=20_000),
)
PAPER_PROCESSES = 128


def _full_vae(step: _Step) -> Recipe:
    train = TrainConfig(
        name=f"full_vae_{step.size_px}x{step.num_frames}",
        num_images=step.batch_size * step.num_steps,
        batch_size=max(1, step.batch_size // PAPER_PROCESSES),
        groups=(ParameterGroup(modules=("networks.vae",), learning_rate=step.learning_rate),),
        final_learning_rate=step.final_learning_rate,
        betas=(0.9, 0.99),
        ema_decay=0.999,
        num_workers=8,
        sharding="fsdp",
        extra={
            "size_px": step.size_px,
            "num_frames": step.num_frames,
            "max_references": 3,
            "recompute": True,
        },
    )
    return Recipe(train, full(), VaeStage, studio_features)


def full_vae_256x5() -> Recipe:
    """Clips of 5 frames, 1e-4 falling to 1e-5. All numbers of this and the next four are for 128 processes."""
    return _full_vae(_SCHEDULE[0])


def full_vae_256x17() -> Recipe:
    """Clips of 17 frames."""
    return _full_vae(_SCHEDULE[1])


def full_vae_256x73() -> Recipe:
    """Clips of 73 frames."""
    return _full_vae(_SCHEDULE[2])


def full_vae_512x17() -> Recipe:
    """Clips of 17 frames at 512 px."""
    return _full_vae(_SCHEDULE[3])


def full_vae_512x73() -> Recipe:
    """Clips of 73 frames at 512 px: about a week in all on the paper's 128 H100."""
    return _full_vae(_SCHEDULE[4])


def _sync(name: str, config: Config, num_images: int, batch_size: int) -> Recipe:
    train = TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=(ParameterGroup(modules=("networks.audio", "face_encoder"), learning_rate=3e-4),),
        extra={"size_px": config.image_size, "moments_per_clip": 8, "min_shift_frames": 3},
    )
    return Recipe(train, config, SyncStage)


def full_sync() -> Recipe:
    """Both towers at published width, in place of the published ones, which are for research only."""
    return _sync("full_sync", full(), 6_400_000, 64)


def full_generator() -> Recipe:
    """250,000 steps of 256 windows, about three days on the paper's 128 H100. The rate is ours."""
    train = TrainConfig(
        name="full_generator",
        num_images=256 * 250_000,
        batch_size=256 // PAPER_PROCESSES,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=1e-4),),
        warmup_images=256 * 5000,
        betas=(0.9, 0.99),
        ema_decay=0.999,
        num_workers=8,
        sharding="fsdp",
        extra={"size_px": full().image_size, "max_references": 3, "num_crops": 2},
    )
    return Recipe(train, full(), GeneratorStage)


def full_student() -> Recipe:
    """Four steps without guidance in place of twelve with it, from `full_generator`. Lengths and rates are ours."""
    extra = {"teacher_steps": 12, "student_steps": 4, "step_shift": 5.0, "guidance": (2.0, 2.0)}
    recipe = full_generator()
    train = replace(
        recipe.train,
        name="full_student",
        num_images=256 * 10_000,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=2e-5),),
        warmup_images=256 * 100,
        extra={**recipe.train.extra, **extra},
    )
    return Recipe(train, recipe.config, StudentStage)


PART_WEIGHT = 10.0
"""With 6 mouths opened by 0.4 of their way in clips."""


def _mini_vae(
    num_frames: int, num_images: int, batch_size: int, rate: float, max_references: int = 3
) -> Recipe:
    train = TrainConfig(
        name=f"mini_vae_{num_frames}",
        num_images=num_images,
        batch_size=batch_size,
        groups=(ParameterGroup(modules=("networks.vae",), learning_rate=rate),),
        warmup_images=50 * batch_size,
        betas=(0.9, 0.99),
        num_workers=1,
        extra={
            "size_px": mini().image_size,
            "num_frames": num_frames,
            "max_references": max_references,
            "part_weight": PART_WEIGHT,
            "perceptual_weight": 0.1,
            # A divergence of any weight puts latents out before anything needs them: Adam makes its small, steady pull
            # as strong as the rest.
            "divergence_weight": 0.0,
        },
    )
    return Recipe(train, mini(), VaeStage, studio_features)


def mini_vae_1() -> Recipe:
    """Before the schedule: single pictures at 128 px, five times as many different ones for the same work.

    From a start that is solved (`stages_start`).
    """
    recipe = _mini_vae(1, 16_000, 8, 4e-4, max_references=1)
    extra = {**recipe.train.extra, "solved_start": True}
    return replace(recipe, train=replace(recipe.train, warmup_images=1600, extra=extra), perceptual=None)


def mini_vae_5() -> Recipe:
    """The schedule's first step."""
    return _mini_vae(5, 4_000, 8, 3e-4, max_references=2)


def mini_vae_17() -> Recipe:
    """Its second."""
    return _mini_vae(17, 4_000, 2, 2e-4)


def mini_vae_41() -> Recipe:
    """In place of its third: as far back as D2 sees."""
    return _mini_vae(41, 2_000, 1, 1e-4)


def mini_sync() -> Recipe:
    """Audio tower of 0.7 M parameters, which the engine keeps; face tower of 3.1 M, for training and measuring only."""
    return _sync("mini_sync", mini(), 1_000_000, 64)


def mini_generator() -> Recipe:
    """A transformer of 1.7 M parameters on windows of 2.5 s."""
    train = replace(
        full_generator().train,
        name="mini_generator",
        num_images=96_000,
        batch_size=8,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=8e-4),),
        warmup_images=2_000,
        num_workers=2,
        sharding="replicate",
        extra={
            "size_px": mini().image_size,
            "max_references": 3,
            "num_crops": 2,
            "mouth_weight": 4.0,
            "lips_weight": 1.0,
        },
    )
    return Recipe(train, mini(), GeneratorStage)


def mini_decoder() -> Recipe:
    """D1, D_ref and D2 alone, behind a generator that has learned the latents as they are.

    Noise lies on the latents, since what a generator draws is never quite one of them. Not in the paper.
    """
    recipe = _mini_vae(5, 4_000, 4, 2e-4, max_references=1)
    parts = ("deep_decoder", "reference_decoder", "picture_decoder")
    groups = (ParameterGroup(modules=tuple(f"networks.vae.{part}" for part in parts), learning_rate=2e-4),)
    extra = {**recipe.train.extra, "latent_noise": 0.6}
    return replace(recipe, train=replace(recipe.train, name="mini_decoder", groups=groups, extra=extra))


def mini_student() -> Recipe:
    """Four steps without guidance, from `mini_generator`."""
    recipe = mini_generator()
    train = replace(
        recipe.train,
        name="mini_student",
        num_images=40_000,
        batch_size=4,
        groups=(ParameterGroup(modules=("networks.generator",), learning_rate=1e-4),),
        warmup_images=400,
        extra={**full_student().train.extra, **recipe.train.extra},
    )
    return Recipe(train, recipe.config, StudentStage)


def _debug(recipe: Recipe, num_images: int, batch_size: int, rate: float) -> Recipe:
    """The same stage at a size for tests: seconds on a CPU, and the loss goes down."""
    groups = tuple(replace(group, learning_rate=rate) for group in recipe.train.groups)
    train = replace(
        recipe.train,
        name=recipe.train.name.replace("mini", "debug").replace("_5", ""),
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        warmup_images=2 * batch_size,
        ema_decay=0.9,
        log_steps=5,
        num_workers=0,
        precision="fp32",
        extra={**recipe.train.extra, "size_px": tiny().image_size},
    )
    return replace(recipe, train=train, config=tiny(), perceptual=None)


def debug_vae() -> Recipe:
    """For tests."""
    return _debug(mini_vae_5(), 32, 2, 2e-3)


def debug_sync() -> Recipe:
    """For tests."""
    return _debug(mini_sync(), 960, 16, 1e-2)


def debug_generator() -> Recipe:
    """For tests."""
    return _debug(mini_generator(), 80, 2, 1e-2)


def debug_decoder() -> Recipe:
    """For tests."""
    return _debug(mini_decoder(), 4, 2, 1e-3)


def debug_student() -> Recipe:
    """For tests."""
    return _debug(mini_student(), 40, 2, 1e-3)


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        full_vae_256x5,
        full_vae_256x17,
        full_vae_256x73,
        full_vae_512x17,
        full_vae_512x73,
        full_sync,
        full_generator,
        full_student,
        mini_vae_1,
        mini_vae_5,
        mini_vae_17,
        mini_vae_41,
        mini_sync,
        mini_generator,
        mini_decoder,
        mini_student,
        debug_vae,
        debug_sync,
        debug_generator,
        debug_decoder,
        debug_student,
    )
}

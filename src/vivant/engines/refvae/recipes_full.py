"""What a recipe of the family is, and those at the paper's size, none of which has been run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from vivant import checkpoint
from vivant.engines.refvae.config import Config, full
from vivant.engines.refvae.losses import Features
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.stages import GeneratorStage, RefVaeStage, SyncStage, VaeStage
from vivant.engines.refvae.stages_student import StudentStage
from vivant.engines.refvae.sync_expert import give_ears
from vivant.face.identity import IdentityNetwork, load_identity
from vivant.store import embedded_weights
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
        """The stage; its networks start from the checkpoint `init`, or at random, but for the audio tower, which is the
        embedded lip-sync expert's where that fits. Clips bring their backgrounds."""
        networks = Networks(self.config)
        if init is not None:
            loaded = checkpoint.load_same(init, self.config, Networks, self.train.name)
            networks.load_state_dict(loaded.state_dict())
        elif (expert := embedded_weights("lipsync-expert") / "model.safetensors").is_file():
            give_ears(networks.audio, load_file(expert))
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


def sync(name: str, config: Config, num_images: int, batch_size: int) -> Recipe:
    """Both towers of the lip-sync expert."""
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
    return sync("full_sync", full(), 6_400_000, 64)


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

"""Training runs of the family. None but `debug` has been run: they wait for GPUs and, for the larger two, for weights.

The trainable set is the published one: every attention of the transformer, and the portrait encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vivant import checkpoint
from vivant.engines.flashportrait.config import Config, medium, mini, published, tiny
from vivant.engines.flashportrait.data import Filter, LargeFaces, SharpPictures
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.stages import FlowStage
from vivant.errors import CheckpointError
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A TrainConfig, the architecture, and which sessions are good enough."""

    train: TrainConfig
    config: Config
    filters: tuple[Filter, ...] = ()
    checkpointing: bool = False
    """Compute blocks again in the backward pass instead of keeping what they made."""

    def build(
        self, sessions: Sequence[Session], backgrounds: np.ndarray, init: Path | None = None
    ) -> FlowStage:
        """The stage; its networks start from the checkpoint `init`, or at random."""
        if init is None:
            networks = FlashPortrait.build_networks(self.config)
        else:
            config, networks = checkpoint.load(init, Config, FlashPortrait.build_networks)
            if config != self.config:
                raise CheckpointError(
                    f"{init} has another architecture than the recipe {self.train.name}; start from a checkpoint of "
                    "the same recipe chain, or without one"
                )
            networks.train().float()
        if self.checkpointing:
            networks.transformer.enable_gradient_checkpointing()  # type: ignore[operator, union-attr]
        return FlowStage(self.config, sessions, backgrounds, networks, self.filters)

    def dry_run(self) -> dict[str, int]:
        """Parameters in all and trained, without memory for them. Raises ValueError for groups that name nothing."""
        with torch.device("meta"):
            networks: nn.Module = FlashPortrait.build_networks(self.config)
        sizes = {name: parameter.numel() for name, parameter in networks.named_parameters()}
        trained = 0
        for group in self.train.groups:
            prefixes = tuple(f"{module}." for module in group.modules)
            chosen = [size for name, size in sizes.items() if name.startswith(prefixes)]
            if not chosen:
                raise ValueError(f"no parameter belongs to the group {group.modules}")
            trained += sum(chosen)
        return {"parameters": sum(sizes.values()), "trained": trained}


def attention_and_encoder(config: Config, learning_rate: float) -> tuple[ParameterGroup, ...]:
    """The published trainable set."""
    blocks = range(config.transformer.num_layers)
    modules = [f"transformer.blocks.{block}.attn{number}" for block in blocks for number in (1, 2)]
    return (
        ParameterGroup(
            modules=(*modules, "portrait_encoder"), learning_rate=learning_rate, weight_decay=3e-2
        ),
    )


def published_14b() -> Recipe:
    """The published run: 2000 h of clips of 81 frames, 20 epochs. Needs its converted weights as --init, many GPUs."""
    train = TrainConfig(
        name="published_14b",
        num_images=7_000_000,
        batch_size=1,
        groups=attention_and_encoder(published(), 1e-5),
        warmup_images=6400,
        betas=(0.9, 0.999),
        num_workers=8,
        sharding="fsdp",
        extra={"size_px": published().image_size},
    )
    return Recipe(train, published(), (LargeFaces(96), SharpPictures(50)), checkpointing=True)


def medium_1b() -> Recipe:
    """The same at the widths of Wan2.1 1.3 B; its image-to-video weights do not exist, so all of it trains."""
    train = TrainConfig(
        name="medium_1b",
        num_images=2_000_000,
        batch_size=2,
        groups=(ParameterGroup(modules=("transformer", "portrait_encoder"), learning_rate=1e-4),),
        warmup_images=6400,
        betas=(0.9, 0.999),
        num_workers=8,
        sharding="fsdp",
        extra={"size_px": medium().image_size},
    )
    return Recipe(train, medium(), (LargeFaces(96), SharpPictures(50)), checkpointing=True)


def mini_flow() -> Recipe:
    """A transformer of 20 M parameters at 128 px, on the frozen VAE, image encoder and face features of its --init."""
    train = TrainConfig(
        name="mini_flow",
        num_images=400_000,
        batch_size=8,
        groups=(ParameterGroup(modules=("transformer", "portrait_encoder"), learning_rate=3e-4),),
        warmup_images=4000,
        num_workers=2,
        extra={"size_px": mini().image_size},
    )
    return Recipe(train, mini(), (LargeFaces(48),))


def debug() -> Recipe:
    """Seconds on a CPU; the loss goes down. For tests."""
    train = TrainConfig(
        name="debug",
        num_images=120,
        batch_size=4,
        groups=(ParameterGroup(modules=("transformer", "portrait_encoder"), learning_rate=5e-3),),
        warmup_images=8,
        log_steps=5,
        num_workers=0,
        precision="fp32",
        extra={"size_px": tiny().image_size},
    )
    return Recipe(train, tiny(), (LargeFaces(8),), checkpointing=True)


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe for recipe in (published_14b, medium_1b, mini_flow, debug)
}

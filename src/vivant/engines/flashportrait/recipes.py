"""Training runs of the family; docs/training.md says which have been run how far, `published_14b` waits for weights.

Published: every attention of the transformer and the portrait encoder learn. flashportrait-mini is `mini_face` (which
solves the VAE as well), `mini_flow`, `mini_decoder`, each from the export of the one before (`--init`), on the clips of
`vivant studio talk`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vivant import checkpoint
from vivant.engines.flashportrait.config import Config, medium, mini, published, tiny, tiny_differences
from vivant.engines.flashportrait.data import Filter, LargeFaces, SharpPictures
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.stages import FlowStage
from vivant.engines.flashportrait.stages_decoder import DecoderStage
from vivant.engines.flashportrait.stages_start import FaceStage
from vivant.engines.flashportrait.stages_talking import TalkingFlowStage
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig, count_parameters
from vivant.training.data.sessions import FromSessions, find_talking_clips


@dataclass(frozen=True)
class Recipe(FromSessions):
    """A TrainConfig, the architecture, and which sessions are good enough."""

    train: TrainConfig
    config: Config
    filters: tuple[Filter, ...] = ()
    checkpointing: bool = False
    """Compute blocks again in the backward pass instead of keeping what they made."""
    stage: type[FlowStage] = FlowStage

    def find_data(self, folder: Path) -> Sequence[Any]:
        return find_talking_clips(folder) if self.stage.talks else super().find_data(folder)

    def build(
        self,
        data: Sequence[Session] | Sequence[Path],
        backgrounds: np.ndarray,
        init: Path | None = None,
    ) -> FlowStage:
        """The stage; its networks start from the checkpoint `init`, or at random."""
        if init is None:
            networks = FlashPortrait.build_networks(self.config)
        else:
            networks = checkpoint.load_same(init, self.config, FlashPortrait.build_networks, self.train.name)
            networks.train().float()
        if self.checkpointing:
            networks.transformer.enable_gradient_checkpointing()  # type: ignore[operator, union-attr]
        return self.stage(self.config, data, backgrounds, networks, self.filters).started()

    def dry_run(self) -> dict[str, int]:
        """Parameters in all and trained, without memory for them. Raises ValueError for groups that name nothing."""
        with torch.device("meta"):
            network = self.build([], np.zeros(0)).network
        return count_parameters(network, self.train.groups)


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


def _mini(
    name: str,
    num_images: int,
    batch_size: int,
    modules: tuple[str, ...],
    rate: float,
    ema_decay: float = 0.998,
) -> TrainConfig:
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=(ParameterGroup(modules=modules, learning_rate=rate),),
        warmup_images=num_images // 50,
        ema_decay=ema_decay,
        # Nothing is made by the loader: the clips lie where the networks are.
        num_workers=0,
        extra={"size_px": mini().image_size},
    )


_FACE = ("networks.face_features", "readers")
_FLOW = ("transformer", "portrait_encoder", "image_encoder")


def mini_face() -> Recipe:
    """What flashportrait-mini sees in a driver's face, on single frames."""
    return Recipe(_mini("mini_face", 400_000, 32, _FACE, 1e-3), mini(), stage=FaceStage)


def mini_flow() -> Recipe:
    """Flow matching at 128 px, 25 frames at once, on the frozen VAE and face features of its --init."""
    return Recipe(_mini("mini_flow", 60_000, 4, _FLOW, 8e-4), mini(), stage=TalkingFlowStage)


def mini_decoder() -> Recipe:
    """What mends pictures, on what the transformer of its --init draws."""
    return Recipe(_mini("mini_decoder", 40_000, 16, ("vae.mending",), 1e-3), mini(), stage=DecoderStage)


def mini_face_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    return Recipe(_mini("mini_face_gpu", 768_000, 256, _FACE, 2e-3), mini(), stage=FaceStage)


def mini_flow_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    config = _mini("mini_flow_gpu", 2_000_000, 128, _FLOW, 1.2e-3, ema_decay=0.999)
    config.extra["streams_per_clip"] = 4
    return Recipe(config, mini(), stage=TalkingFlowStage)


def mini_decoder_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    config = _mini("mini_decoder_gpu", 256_000, 64, ("vae.mending",), 2e-3)
    return Recipe(config, mini(), stage=DecoderStage)


def debug_face() -> Recipe:
    groups = ("networks.face_features", "readers")
    return Recipe(_debug("debug_face", 80, groups, 5e-3), tiny(), stage=FaceStage)


def debug_flow() -> Recipe:
    train = _debug("debug_flow", 120, ("transformer", "portrait_encoder"), 5e-3)
    return Recipe(train, tiny_differences(), stage=TalkingFlowStage)


def _debug(name: str, num_images: int, modules: tuple[str, ...], rate: float) -> TrainConfig:
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=4,
        groups=(ParameterGroup(modules=modules, learning_rate=rate),),
        warmup_images=8,
        log_steps=5,
        num_workers=0,
        precision="fp32",
        extra={"size_px": tiny().image_size},
    )


def debug_decoder() -> Recipe:
    return Recipe(_debug("debug_decoder", 80, ("vae.mending",), 5e-3), tiny_differences(), stage=DecoderStage)


def debug() -> Recipe:
    """Flow matching."""
    train = _debug("debug", 120, ("transformer", "portrait_encoder"), 5e-3)
    return Recipe(train, tiny(), (LargeFaces(8),), checkpointing=True)


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        published_14b,
        medium_1b,
        mini_face,
        mini_flow,
        mini_decoder,
        mini_face_gpu,
        mini_flow_gpu,
        mini_decoder_gpu,
        debug,
        debug_face,
        debug_flow,
        debug_decoder,
    )
}

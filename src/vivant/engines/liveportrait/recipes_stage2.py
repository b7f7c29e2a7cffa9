"""Training runs of stage II: stitching and retargeting networks, on top of a checkpoint of stage I."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vivant import checkpoint
from vivant.engines.liveportrait.config import (
    Config,
    mini,
    published,
    takes_weights,
    tiny_whole,
    with_retargeting,
)
from vivant.engines.liveportrait.config_compact import mini_retargeting
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.stages_retargeting import RetargetingStage
from vivant.presets import find_checkpoint
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.sessions import FromSessions


@dataclass(frozen=True)
class RetargetingRecipe(FromSessions):
    """Stage II: the three small networks, on top of a checkpoint of stage I."""

    train: TrainConfig
    config: Config

    def build(
        self, sessions: Sequence[Session], backgrounds: np.ndarray, init: Path | None = None
    ) -> RetargetingStage:
        """The stage. Without `init` only the mechanics make sense: nothing is drawn yet."""
        if self.config.networks == "published":
            whole = PublishedNetworks(self.config)
            if init is not None:
                fits = partial(takes_weights, self.config)
                loaded = checkpoint.load_same(init, self.config, PublishedNetworks, self.train.name, fits)
                whole.load_state_dict(loaded.state_dict())
            _, eyes = checkpoint.load(find_checkpoint("liveportrait-mini"), Config, CompactNetworks)
            assert isinstance(eyes, CompactNetworks)
            reader = eyes.requires_grad_(False).motion_network
            return RetargetingStage(self.config, sessions, backgrounds, whole, reader, self.train)
        networks = CompactNetworks(self.config)
        if init is not None:
            loaded = checkpoint.load_same(init, self.config, CompactNetworks, self.train.name, self._fits)
            networks.load_state_dict(loaded.state_dict(), strict=False)
        return RetargetingStage(self.config, sessions, backgrounds, networks, None, self.train)

    def _fits(self, found: Config) -> bool:
        """The compact networks of the recipe, with or yet without those of stage II."""
        if found.compact is None or self.config.compact is None:
            return False
        sizes = self.config.compact.retargeting
        if found.compact.retargeting is None and sizes is not None:
            found = with_retargeting(found, sizes)
        return found == self.config


def mini_stage2() -> RetargetingRecipe:
    """Retargeting of liveportrait-mini, from the export of `mini_finish`."""
    train = TrainConfig(
        name="mini_stage2",
        num_images=2400,
        batch_size=4,
        groups=(ParameterGroup(modules=("retargeting",), learning_rate=2e-3, weight_decay=0.0),),
        warmup_images=80,
        ema_decay=0.98,
        extra={"size_px": 192},
    )
    return RetargetingRecipe(train, with_retargeting(mini(), mini_retargeting()))


def mini_stage2_gpu() -> RetargetingRecipe:
    """`mini_stage2`, 80 times as long and at 256 px. Not run yet."""
    recipe = mini_stage2()
    train = replace(
        recipe.train,
        name="mini_stage2_gpu",
        num_images=192_000,
        batch_size=32,
        warmup_images=2000,
        ema_decay=0.999,
        num_workers=14,
        extra={"size_px": 256},
    )
    return replace(recipe, train=train)


def published_stage2() -> RetargetingRecipe:
    """Published size; the paper took two days on 8 A100 (batch 104, Adam 2e-4). Not run yet."""
    train = TrainConfig(
        name="published_stage2",
        num_images=5_000_000,
        batch_size=13,
        groups=(ParameterGroup(modules=("stitching",), learning_rate=2e-4, weight_decay=0.0),),
        betas=(0.5, 0.999),
        num_workers=8,
        extra={"size_px": 256},
    )
    return RetargetingRecipe(train, published())


def debug_stage2() -> RetargetingRecipe:
    """Seconds on a CPU; the loss goes down. For tests."""
    train = TrainConfig(
        name="debug_stage2",
        num_images=160,
        batch_size=4,
        groups=(ParameterGroup(modules=("retargeting",), learning_rate=1e-2, weight_decay=0.0),),
        warmup_images=8,
        log_steps=5,
        num_workers=0,
        precision="fp32",
        # What untrained networks read means nothing, so it hardly counts here.
        extra={"size_px": 64, "weights": {"eyes_condition": 1e-5, "lips_condition": 1e-5}},
    )
    return RetargetingRecipe(train, tiny_whole())

"""Training runs of the family, each a function that returns everything the trainer needs but the data.

At published size `published_stage1` to `published_stage3`, from the published weights; small, in this order, each from
the export of the one before (`vivant train NAME --init FOLDER`), all on the clips of `vivant studio talk`:
`mini_start`, `mini_stage1`, `mini_stage2`, `mini_stage3`. The same names with `_gpu` are for minutes on one GPU. What
personalive-mini has been through is in its card; no recipe has been run at its full length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vivant import checkpoint
from vivant.engines.personalive.config import Config, mini, published, tiny, tiny_differences
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.stages import Diffusion, HybridMotionStage
from vivant.engines.personalive.stages_judged import DistillationStage, TemporalStage
from vivant.engines.personalive.stages_start import StartStage
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.sessions import find_sessions, find_talking_clips

# Stages 1 and 2 train everything but VAE, image encoder, motion extractor and the last size of R, of which R hands
# little on.
_TRAINED = (
    *(
        f"networks.reference_unet.{part}"
        for part in ("conv_in", "time_embedding", "down_blocks", "mid_block")
    ),
    *(f"networks.reference_unet.up_blocks.{block}" for block in range(3)),
    "networks.denoiser",
    "networks.motion_encoder",
    "networks.pose_guider",
)
_SCALES = ("down_blocks.0", "down_blocks.1", "down_blocks.2", "down_blocks.3", "mid_block",
           "up_blocks.0", "up_blocks.1", "up_blocks.2", "up_blocks.3")  # fmt: skip
_TEMPORAL = tuple(f"networks.denoiser.{scale}.temporal_modules" for scale in _SCALES)


@dataclass(frozen=True)
class Recipe:
    """A TrainConfig, the architecture, and the stage that trains it."""

    train: TrainConfig
    config: Config
    stage: type[Diffusion]

    def find_data(self, folder: Path) -> Sequence[Session] | Sequence[Path]:
        """Sessions of single frames, or clips for the stage that needs time and where pictures stay on the device."""
        clips = self.stage is TemporalStage or bool(self.train.extra.get("resident"))
        return find_talking_clips(folder) if clips else find_sessions(folder, held_out=False)

    def build(
        self, data: Sequence[Session] | Sequence[Path], backgrounds: np.ndarray, init: Path | None = None
    ) -> Diffusion:
        """The stage; its networks start from the checkpoint `init`, or at random."""
        networks = Networks(self.config)
        if init is None:
            _rest_temporal_modules(networks)
        else:
            loaded = checkpoint.load_same(init, self.config, Networks, self.train.name)
            networks.load_state_dict(loaded.state_dict())
        return self.stage(self.config, networks, self.train, data, backgrounds)


def _rest_temporal_modules(networks: Networks) -> None:
    """Let them add nothing until stage 3 teaches them: what stages 1 and 2 export is then whole."""
    for name, parameter in networks.denoiser.named_parameters():
        if ".temporal_modules." in name and ".proj_out." in name:
            nn.init.zeros_(parameter)


def _published(
    name: str,
    num_images: int,
    batch_size: int,
    groups: tuple[ParameterGroup, ...],
    extra: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The published program's optimiser: AdamW, constant rate. (It has 8-bit moments in stages 2 and 3.)"""
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        betas=(0.9, 0.999),
        warmup_images=1,
        final_learning_rate=1.0,
        ema_decay=0.0,
        num_workers=8,
        sharding="fsdp",
        seed=12580,
        extra={"size_px": 512, "recompute": True, **(extra or {})},
    )


def _all(rate: float) -> tuple[ParameterGroup, ...]:
    return (ParameterGroup(modules=_TRAINED, learning_rate=rate),)


def _judged(modules: tuple[str, ...], rate: float, judge_rate: float) -> tuple[ParameterGroup, ...]:
    return (
        ParameterGroup(modules=modules, learning_rate=rate),
        ParameterGroup(modules=("discriminator",), learning_rate=judge_rate, weight_decay=0.0),
    )


def published_stage1() -> Recipe:
    """30,000 steps of 64 pairs; 8 per process as on the paper's 8 H100 (13 hours there)."""
    return Recipe(_published("published_stage1", 64 * 30_000, 8, _all(1e-5)), published(), HybridMotionStage)


def published_stage2() -> Recipe:
    """30,000 steps of 32 pairs (15 hours on 8 H100).

    The published judge begins trained on FFHQ, is heard from step 3000 and learns from step 5000. Ours begins from
    nothing, so it learns first.
    """
    train = _published(
        "published_stage2",
        32 * 30_000,
        4,
        _judged(_TRAINED, 1e-5, 2e-5),
        {"channel_base": 32768, "judge_from": 0.1, "judged_from": 1 / 6, "decode_frames": 2},
    )
    return Recipe(train, published(), DistillationStage)


def published_stage3() -> Recipe:
    """10,000 clips for each of 8 processes, three updates each (20 hours on 8 H100)."""
    clips = {"num_frames": 40, "stride": 4, "decode_frames": 2}
    train = _published(
        "published_stage3",
        8 * 30_000,
        1,
        _judged(_TEMPORAL, 1e-5, 2e-5),
        {"channel_base": 32768, "judge_from": 0.0, "judged_from": 0.005, **clips},
    )
    return Recipe(train, published(), TemporalStage)


_MINI = {"resident": True, "graded": True, "drops": 0.0, "spoils": False, "focus": 2.0}
"""Clips stay where the networks learn, graded there, for photographs have other colours. What sees motion rests after
the start, so face crops need not be spoiled; no guidance needs conditions that are dropped; errors count three times in
the face, five times in eyes and mouth."""
_START = ("networks.motion_encoder", "points", "blendshapes")
_DRAWING = tuple(name for name in _TRAINED if name != "networks.motion_encoder")
_SHOWING = (*_DRAWING, "networks.vae.mending")


def _mini(
    name: str,
    num_images: int,
    batch_size: int,
    group: tuple[tuple[str, ...], float],
    extra: Mapping[str, Any] | None = None,
    ema_decay: float = 0.998,
) -> TrainConfig:
    """In float32, which on a GPU is TensorFloat-32: casts would be a third as many kernels again."""
    modules, rate = group
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=(ParameterGroup(modules=modules, learning_rate=rate),),
        precision="fp32",
        warmup_images=max(1, num_images // 50),
        ema_decay=ema_decay,
        # The loader makes numbers only.
        num_workers=0,
        extra={"size_px": mini().image_size, **_MINI, **(extra or {})},
    )


def mini_start() -> Recipe:
    """personalive-mini: the VAE is solved; what sees heads and faces learns."""
    train = _mini("mini_start", 400_000, 32, (_START, 1e-3))
    return Recipe(train, mini(), StartStage)


def mini_stage1() -> Recipe:
    """Hybrid motion at 128 px, at the four levels at which the engine draws."""
    train = _mini("mini_stage1", 400_000, 8, (_DRAWING, 8e-4), {"at_levels": True})
    return Recipe(train, mini(), HybridMotionStage)


def mini_stage2() -> Recipe:
    """Distillation at 128 px, without a judge; what mends pictures learns on what is drawn."""
    return Recipe(_mini("mini_stage2", 100_000, 8, (_SHOWING, 4e-4)), mini(), DistillationStage)


_CLIPS = {"num_frames": 40, "stride": 2}


def mini_stage3() -> Recipe:
    """Sliding windows at 128 px, without a judge; all of the denoiser learns."""
    modules = ("networks.denoiser", "networks.vae.mending")
    return Recipe(_mini("mini_stage3", 10_000, 1, (modules, 3e-4), _CLIPS), mini(), TemporalStage)


def mini_start_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    train = _mini("mini_start_gpu", 1_024_000, 256, (_START, 2e-3))
    return Recipe(train, mini(), StartStage)


def mini_stage1_gpu() -> Recipe:
    """The same in minutes of one GPU. In batches of 256 there were too few steps (docs/log.md)."""
    train = _mini("mini_stage1_gpu", 512_000, 64, (_DRAWING, 1e-3), {"at_levels": True})
    return Recipe(train, mini(), HybridMotionStage)


def mini_stage2_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    train = _mini("mini_stage2_gpu", 128_000, 32, (_SHOWING, 5e-4))
    return Recipe(train, mini(), DistillationStage)


def mini_stage3_gpu() -> Recipe:
    """The same in minutes of one GPU."""
    modules = ("networks.denoiser", "networks.vae.mending")
    train = _mini("mini_stage3_gpu", 4_000, 8, (modules, 4e-4), _CLIPS, 0.99)
    return Recipe(train, mini(), TemporalStage)


def _debug(
    name: str,
    num_images: int,
    batch_size: int,
    groups: tuple[ParameterGroup, ...],
    extra: Mapping[str, Any] | None = None,
) -> TrainConfig:
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        warmup_images=1,
        log_steps=1,
        num_workers=0,
        precision="fp32",
        extra={"size_px": 64, **(extra or {})},
    )


def debug_start() -> Recipe:
    """Seconds on a CPU; the loss goes down. For tests, as all debug recipes."""
    return _debug_mini("debug_start", (96, 8), _START, StartStage)


def debug_pairs() -> Recipe:
    """As mini_stage1."""
    return _debug_mini("debug_pairs", (64, 4), _DRAWING, HybridMotionStage, {"at_levels": True})


def debug_shown() -> Recipe:
    """As mini_stage2."""
    return _debug_mini("debug_shown", (8, 2), _SHOWING, DistillationStage)


def debug_windows() -> Recipe:
    """As mini_stage3."""
    modules = ("networks.denoiser", "networks.vae.mending")
    return _debug_mini("debug_windows", (4, 1), modules, TemporalStage, {"num_frames": 10, "stride": 1})


def _debug_mini(
    name: str,
    sizes: tuple[int, int],
    modules: tuple[str, ...],
    stage: type[Diffusion],
    extra: Mapping[str, Any] | None = None,
) -> Recipe:
    groups = (ParameterGroup(modules=modules, learning_rate=4e-3),)
    train = _debug(name, *sizes, groups, {**_MINI, **(extra or {})})
    return Recipe(train, tiny_differences(), stage)


def debug_stage1() -> Recipe:
    return Recipe(_debug("debug_stage1", 6, 2, _all(1e-3), {"recompute": True}), tiny(), HybridMotionStage)


def debug_stage2() -> Recipe:
    groups = _judged(_TRAINED, 1e-3, 1e-3)
    extra = {"channel_base": 512, "judge_from": 0.0, "judged_from": 0.5, "decode_frames": 1}
    return Recipe(_debug("debug_stage2", 4, 2, groups, extra), tiny(), DistillationStage)


def debug_stage3() -> Recipe:
    """Windows of three chunks of two frames: clips of 10 frames have two updates."""
    groups = _judged(_TEMPORAL, 1e-3, 1e-3)
    extra = {"channel_base": 512, "judge_from": 0.0, "judged_from": 0.5, "num_frames": 10, "stride": 1}
    return Recipe(_debug("debug_stage3", 2, 1, groups, extra), tiny(), TemporalStage)


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__: f
    for f in (
        published_stage1,
        published_stage2,
        published_stage3,
        mini_start,
        mini_stage1,
        mini_stage2,
        mini_stage3,
        mini_start_gpu,
        mini_stage1_gpu,
        mini_stage2_gpu,
        mini_stage3_gpu,
        debug_start,
        debug_pairs,
        debug_shown,
        debug_windows,
        debug_stage1,
        debug_stage2,
        debug_stage3,
    )
}

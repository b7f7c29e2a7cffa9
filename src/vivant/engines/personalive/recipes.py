"""Training runs of the family, each a function that returns everything the trainer needs but the data.

At published size `published_stage1` to `published_stage3`, from the published weights or from nothing; small, in this
order, each from the export of the one before (`vivant train NAME --init FOLDER`): `mini_vae`, `mini_pose`,
`mini_stage1`, `mini_stage2`, `mini_stage3`. None has been run at its full length. The same names with `_gpu` are for
minutes on one GPU; there VAE and pose network may learn side by side, see `merge.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from vivant import checkpoint
from vivant.engines.personalive.config import Config, mini, published, tiny
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.stages import Diffusion, HybridMotionStage
from vivant.engines.personalive.stages_judged import DistillationStage, TemporalStage
from vivant.engines.personalive.stages_start import PoseStage, VaeStage
from vivant.studio.dataset import Session
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.sessions import find_sessions, find_talking_clips

# Stages 1 and 2 train everything but VAE, image encoder, pose network and the last size of R, which R hands little of.
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
        """Sessions of single frames, or clips for the stage that needs time."""
        return (
            find_talking_clips(folder)
            if self.stage is TemporalStage
            else find_sessions(folder, held_out=False)
        )

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


def _mini(
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
        warmup_images=max(1, num_images // 50),
        extra={"size_px": 128, **(extra or {})},
    )


def mini_vae() -> Recipe:
    """Autoencoder of personalive-mini."""
    groups = (ParameterGroup(modules=("networks.vae",), learning_rate=1e-3),)
    return Recipe(_mini("mini_vae", 100_000, 16, groups), mini(), VaeStage)


def mini_pose() -> Recipe:
    """Pose network of personalive-mini."""
    groups = (ParameterGroup(modules=("networks.motion_extractor",), learning_rate=8e-4),)
    return Recipe(_mini("mini_pose", 100_000, 64, groups), mini(), PoseStage)


def mini_stage1() -> Recipe:
    """Hybrid motion at 128 px."""
    return Recipe(_mini("mini_stage1", 400_000, 32, _all(4e-4)), mini(), HybridMotionStage)


def mini_stage2() -> Recipe:
    """Distillation at 128 px."""
    groups = _judged(_TRAINED, 2e-4, 2e-4)
    extra = {"channel_base": 2048, "judge_from": 0.1, "judged_from": 1 / 6}
    return Recipe(_mini("mini_stage2", 200_000, 16, groups, extra), mini(), DistillationStage)


def mini_stage3() -> Recipe:
    """Sliding windows at 128 px, on talking clips."""
    groups = _judged(_TEMPORAL, 2e-4, 2e-4)
    extra = {"channel_base": 2048, "judge_from": 0.0, "judged_from": 0.005, "num_frames": 40, "stride": 2}
    return Recipe(_mini("mini_stage3", 20_000, 2, groups, extra), mini(), TemporalStage)


def _mini_gpu(
    name: str,
    num_images: int,
    batch_size: int,
    groups: tuple[ParameterGroup, ...],
    extra: Mapping[str, Any] | None = None,
    ema_decay: float = 0.998,
) -> TrainConfig:
    """For a GPU that waits for its next kernel most of the time: large batches of pictures that stay on it.

    float32, which there is TensorFloat-32 in convolutions: casts would be a third as many kernels again, and bfloat16
    is too coarse for the noise of the noisiest level, whose errors count 15 times. Short runs: conditions are dropped
    rarely, because no guidance needs it, and the judge is heard late and little.
    """
    return TrainConfig(
        name=name,
        num_images=num_images,
        batch_size=batch_size,
        groups=groups,
        precision="fp32",
        warmup_images=num_images // 30,
        ema_decay=ema_decay,
        extra={"size_px": 128, "resident": True, "drops": 0.2, **(extra or {})},
    )


def mini_vae_gpu() -> Recipe:
    """Autoencoder of personalive-mini, with faces in focus."""
    groups = (ParameterGroup(modules=("networks.vae",), learning_rate=1.5e-3),)
    return Recipe(_mini_gpu("mini_vae_gpu", 320_000, 64, groups, {"face_weight": 2.0}), mini(), VaeStage)


def mini_pose_gpu() -> Recipe:
    """Pose network of personalive-mini."""
    groups = (ParameterGroup(modules=("networks.motion_extractor",), learning_rate=2e-3),)
    return Recipe(_mini_gpu("mini_pose_gpu", 640_000, 192, groups), mini(), PoseStage)


def mini_stage1_gpu() -> Recipe:
    """Hybrid motion at 128 px; no error of the noise counts much more than at the second of the four levels."""
    extra = {"most_gain": 10.0, "contrast": 0.5}
    train = _mini_gpu("mini_stage1_gpu", 800_000, 192, _all(8e-4), extra)
    return Recipe(train, mini(), HybridMotionStage)


_JUDGED_LATE = {
    "channel_base": 2048,
    "judge_from": 0.5,
    "judged_from": 0.7,
    "adversarial": 0.002,
    "perceptual": 0.5,
}
"""In a short run a judge that is heard from the start would break what is not there yet."""


def mini_stage2_gpu() -> Recipe:
    """Distillation at 128 px."""
    extra = {**_JUDGED_LATE, "contrast": 0.5}
    train = _mini_gpu("mini_stage2_gpu", 130_000, 64, _judged(_TRAINED, 4e-4, 4e-4), extra, 0.995)
    return Recipe(train, mini(), DistillationStage)


def mini_stage3_gpu() -> Recipe:
    """Sliding windows at 128 px, on talking clips."""
    extra = {**_JUDGED_LATE, "num_frames": 40, "stride": 2}
    train = _mini_gpu("mini_stage3_gpu", 9_600, 8, _judged(_TEMPORAL, 6e-4, 4e-4), extra, 0.99)
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


def debug_vae() -> Recipe:
    """Seconds on a CPU; the loss goes down. For tests, as all debug recipes."""
    groups = (ParameterGroup(modules=("networks.vae",), learning_rate=5e-3),)
    return Recipe(_debug("debug_vae", 40, 4, groups), tiny(), VaeStage)


def debug_pose() -> Recipe:
    groups = (ParameterGroup(modules=("networks.motion_extractor",), learning_rate=2e-3),)
    return Recipe(_debug("debug_pose", 48, 4, groups), tiny(), PoseStage)


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
        mini_vae,
        mini_pose,
        mini_stage1,
        mini_stage2,
        mini_stage3,
        mini_vae_gpu,
        mini_pose_gpu,
        mini_stage1_gpu,
        mini_stage2_gpu,
        mini_stage3_gpu,
        debug_vae,
        debug_pose,
        debug_stage1,
        debug_stage2,
        debug_stage3,
    )
}

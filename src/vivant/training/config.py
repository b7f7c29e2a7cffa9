"""What a run is: numbers chosen by a recipe, and what a family's stage offers to the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from torch.utils.data import Dataset


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that share a learning rate."""

    modules: tuple[str, ...]
    """Names of submodules of the stage's network ("" = all that no other group names)."""
    learning_rate: float
    weight_decay: float = 0.01


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. Every number that changes the result is here and is written beside the weights."""

    name: str
    num_images: int
    """Length of the run in images seen (over all processes); the learning-rate schedule spans exactly this."""
    batch_size: int
    """Images (or pairs) per process and optimiser step, before accumulation."""
    groups: tuple[ParameterGroup, ...]
    accumulate: int = 1
    """Micro-batches per optimiser step."""
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    warmup_images: int = 1000
    final_learning_rate: float = 0.03
    """Share of the peak learning rate at the end of the cosine."""
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    checkpoint_minutes: float = 3.0
    log_steps: int = 20
    num_workers: int = 1
    sharding: Literal["replicate", "fsdp"] = "replicate"
    extra: dict[str, Any] = field(default_factory=dict)
    """Settings of the stage itself (loss weights, crop size ...), recorded with the run."""

    def __post_init__(self) -> None:
        for name in ("num_images", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


class Stage(Protocol):
    """What a family gives the trainer. The trainer calls nothing else."""

    network: nn.Module
    """Everything that is saved; the recipe's groups say which parts train."""

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        """Map-style: item k is the whole micro-batch k of this rank, a pure function of (seed, rank, k)."""

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """Weighted scalar terms; their sum is minimised. `progress` runs from 0 to 1 over the run."""

    def export(self, network: nn.Module, folder: Path) -> None:
        """Write `network` (the averaged weights) as something that `vivant.load` opens."""

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Rows of pictures (3, H, W) that `network` draws for a batch, to look at; may be empty."""


def count_parameters(network: nn.Module, groups: Sequence[ParameterGroup]) -> dict[str, int]:
    """Parameters in all and trained. Raises ValueError for groups that name nothing."""
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    trained = 0
    for group in groups:
        prefixes = tuple(f"{module}." for module in group.modules)
        chosen = [size for name, size in sizes.items() if name.startswith(prefixes)]
        if not chosen:
            raise ValueError(f"no parameter belongs to the group {group.modules}")
        trained += sum(chosen)
    return {"parameters": sum(sizes.values()), "trained": trained}

"""Program for test_training: a small regression, alone or as one of two processes (torchrun).

Arguments: replicate, rarely or fsdp; the folder of the run; and after how many minutes it stops, or nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.trainer import Trainer

WORLD = int(os.environ.get("WORLD_SIZE", "1"))


class Shares(Dataset):
    """Batch k has 8 rows in all; two processes take 4 each."""

    def __init__(self, rank: int):
        self.rank = rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(index))
        part = torch.arange(8) // 4
        return {"x": x.chunk(WORLD)[self.rank], "part": part.chunk(WORLD)[self.rank]}


class Rarely(nn.Module):
    """A parameter that the rows of the second process do not use."""

    part: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        first = self.part == 0
        return x + self.offset * first[:, None] if first.any() else x


class Regression:
    def __init__(self, *, rarely: bool) -> None:
        torch.manual_seed(1)
        self.network: nn.Sequential = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
        self.rarely = rarely
        if rarely:
            self.network.append(Rarely())

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset:
        return Shares(rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        if self.rarely:
            cast("Rarely", self.network[-1]).part = batch["part"]
        return {"error": (self.network(batch["x"]) - batch["x"][:, :2] ** 2).pow(2).mean()}

    def export(self, network: nn.Module, folder: Path) -> None:
        pass

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()


if __name__ == "__main__":
    config = TrainConfig(
        name="regression",
        num_images=8 * 6,
        batch_size=8 // WORLD,
        groups=(ParameterGroup(modules=("",), learning_rate=1e-2),),
        precision="fp32",
        num_workers=0,
        warmup_images=1,
        sharding="fsdp" if sys.argv[1] == "fsdp" else "replicate",
    )
    folder = Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    minutes = float(sys.argv[3]) if len(sys.argv) > 3 else None
    Trainer(Regression(rarely=sys.argv[1] == "rarely"), config, folder, torch.device("cpu")).run(minutes)

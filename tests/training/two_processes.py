"""Program for test_training: a small regression, alone or as one of two processes (torchrun)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

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
        return {"x": x.chunk(WORLD)[self.rank]}


class Regression:
    def __init__(self) -> None:
        torch.manual_seed(1)
        self.network: nn.Module = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset:
        return Shares(rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
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
        sharding=sys.argv[1],
    )
    folder = Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    Trainer(Regression(), config, folder, torch.device("cpu")).run()

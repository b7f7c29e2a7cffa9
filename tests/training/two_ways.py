"""Program for test_sharding (torchrun, FOLDER RECIPE SHARDING): a step of a debug recipe, replicated or sharded.

The test runs one recipe; liveportrait's stage I and flashportrait's debug recipe were compared so by hand. One group of
processes per launch: a second one would find the first one's addresses in torchrun's store, where nobody listens.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.personalive.data import shared_draws
from vivant.training.config import TrainConfig
from vivant.training.launch import find_recipe
from vivant.training.trainer import Trainer

from .synthetic import make_session


class Noise(Dataset[dict[str, Tensor]]):
    """Batches for the families whose own data are compiled first, which would cost more than the rest of the test."""

    def __init__(self, family: str, size_px: int, batch_size: int, rank: int):
        self.family, self.size_px, self.batch_size, self.rank = family, size_px, batch_size, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1000 * self.rank + index)
        shape = (2, self.batch_size, self.size_px, self.size_px, 3)
        first, second = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if self.family == "liveportrait":
            return {"source": first, "driving": second}
        points = torch.rand(self.batch_size, 1, 68, 2, generator=generator) - 0.5
        return {"reference": first, "driving": second[:, None], "points": points} | shared_draws(0, index)


def noise(family: str, config: TrainConfig, rank: int, world_size: int) -> Noise:
    return Noise(family, int(config.extra["size_px"]), config.batch_size, rank)


if __name__ == "__main__":
    root, name, sharding = sys.argv[1:]
    recipe = find_recipe(name)
    size = int(recipe.train.extra["size_px"])
    torch.manual_seed(0)
    stage = recipe.build(
        [make_session(identity, num_frames=16) for identity in range(2)],
        np.full((2, size, size, 3), 90, np.uint8),
    )
    if not name.startswith("flashportrait"):
        stage.dataset = partial(noise, name.partition("/")[0])
    # One step of two processes.
    train = replace(recipe.train, sharding=sharding, num_images=2 * recipe.train.batch_size)
    folder = Path(root) / sharding
    folder.mkdir(parents=True, exist_ok=True)
    Trainer(stage, train, folder, torch.device("cpu")).run()

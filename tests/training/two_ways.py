"""Program for test_sharding (torchrun): debug recipes of the families, with replicated and with sharded weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vivant.training.launch import find_recipe
from vivant.training.trainer import Trainer

from .synthetic import make_session

if __name__ == "__main__":
    for name in sys.argv[2:]:
        recipe = find_recipe(name)
        size = int(recipe.train.extra["size_px"])
        backgrounds = np.full((2, size, size, 3), 90, np.uint8)
        for sharding in ("replicate", "fsdp"):
            torch.manual_seed(0)
            stage = recipe.build(
                [make_session(identity, num_frames=16) for identity in range(2)], backgrounds
            )
            # Two steps of two processes.
            train = replace(recipe.train, sharding=sharding, num_images=4 * recipe.train.batch_size)
            folder = Path(sys.argv[1]) / name.replace("/", "-") / sharding
            folder.mkdir(parents=True, exist_ok=True)
            Trainer(stage, train, folder, torch.device("cpu")).run()

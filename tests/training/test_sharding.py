"""What is learned does not depend on whether each process holds all weights (FSDP2)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn

from vivant.training.distributed import full_tensor, shard
from vivant.training.launch import find_recipe

from .synthetic import make_session


def batch_of(name: str, stage: Any, recipe: Any) -> dict[str, Tensor]:
    """One micro-batch; for liveportrait without labels, whose making would be compiled first."""
    if name.startswith("flashportrait"):
        return dict(stage.dataset(recipe.train, 0, 1)[0])
    shape = (2, 2, 256, 256, 3)
    pictures = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {"source": pictures[0], "driving": pictures[1]}


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# Blocks return views, and nobody works on them in place.
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["flashportrait/debug", "liveportrait/debug_published_stage1"])
def test_sharded_weights_give_the_same_gradients(name: str) -> None:
    """With one process: what is used outside `forward` would meet weights that are not gathered."""
    recipe, gradients = find_recipe(name), []
    size = int(recipe.train.extra["size_px"])
    prefixes = tuple(module and f"{module}." for group in recipe.train.groups for module in group.modules)
    for sharded in (False, True):
        torch.manual_seed(0)
        sessions = [make_session(identity, num_frames=16) for identity in range(2)]
        stage = recipe.build(sessions, np.full((2, size, size, 3), 90, np.uint8))
        for key, parameter in stage.network.named_parameters():
            parameter.requires_grad_(key.startswith(prefixes))
        if sharded:
            shard(stage.network)
        torch.manual_seed(1)
        terms = stage.losses(batch_of(name, stage, recipe), 1.0)
        torch.stack(list(terms.values())).sum().backward()
        parameters = dict(stage.network.named_parameters())
        gradients.append({k: full_tensor(p.grad) for k, p in parameters.items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert any(float(gradient.abs().max()) > 0 for gradient in gradients[0].values())
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_processes_learn_the_same_sharded_or_not(tmp_path: Path) -> None:
    """personalive's first stage, a whole run each: training, snapshot, export and pictures."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.training.two_ways", str(tmp_path)]
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    ways = ("replicate", "fsdp")
    for way in ways:
        line = [*command, "personalive/debug_stage1", way]
        subprocess.run(line, check=True, cwd=root, env=env, timeout=550)
    whole, sharded = (load_file(tmp_path / way / "snapshot.safetensors") for way in ways)
    assert whole.keys() == sharded.keys()
    for key in whole:
        if key.startswith(("network/", "average/")):
            torch.testing.assert_close(sharded[key], whole[key], atol=1e-5, rtol=1e-4)
    slots = [key for key in whole if key.startswith("optimizer/") and key.endswith("exp_avg")]
    assert any(float(whole[key].abs().max()) > 0 for key in slots), "something was learned"


def test_what_would_train_apart_is_refused() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.register_parameter("gain", nn.Parameter(torch.ones(1)))
    with pytest.raises(ValueError, match="outside of all children"):
        shard(network)

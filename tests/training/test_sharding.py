"""What two processes learn does not depend on whether each holds all weights (FSDP2), in every family that shards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vivant.training.distributed import shard

RECIPES = ("flashportrait/debug", "liveportrait/debug_published_stage1", "personalive/debug_stage1")


@pytest.mark.slow
def test_sharded_weights_learn_what_whole_ones_do(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.training.two_ways", str(tmp_path), *RECIPES]
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        command,
        check=True,
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        timeout=280,
    )
    for name in RECIPES:
        folder = tmp_path / name.replace("/", "-")
        whole, sharded = (load_file(folder / way / "snapshot.safetensors") for way in ("replicate", "fsdp"))
        assert whole.keys() == sharded.keys()
        learned = [key for key in whole if key.startswith(("network/", "average/"))]
        for key in learned:
            torch.testing.assert_close(
                sharded[key],
                whole[key],
                atol=1e-5,
                rtol=1e-4,
                msg=lambda text, at=f"{name} {key}": f"{at}: {text}",
            )
        slots = [key for key in whole if key.startswith("optimizer/") and key.endswith("exp_avg")]
        assert any(float(whole[key].abs().max()) > 0 for key in slots), "something was learned"


def test_what_would_train_apart_is_refused() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.register_parameter("gain", nn.Parameter(torch.ones(1)))
    with pytest.raises(ValueError, match="outside of all children"):
        shard(network)

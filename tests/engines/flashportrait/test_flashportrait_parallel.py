"""Two processes draw what one draws, with whatever asks the transformer, and say how many there can be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from flash_engine import tiny_engine
from safetensors.torch import load_file
from several_processes import played

from vivant.engines.flashportrait.config import tiny
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.errors import InputError
from vivant.runtime.parallel import Team

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    script, out = HERE / "several_processes.py", tmp_path / "frames.safetensors"
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(out)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240)
    together, alone = load_file(out), played(tiny_engine())
    assert together.keys() == alone.keys()
    for name, frames in alone.items():
        assert frames.std() > 0.02
        torch.testing.assert_close(
            together[name], frames, atol=5e-4, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("size", [3, 4])
def test_processes_that_do_not_divide_the_work(size: int) -> None:
    networks = FlashPortrait.build_networks(tiny())
    with pytest.raises(
        InputError, match=f"2 attention heads and 4 tokens per latent evenly; {size} processes"
    ):
        networks.work_together(Team(0, size, torch.device("cpu")))

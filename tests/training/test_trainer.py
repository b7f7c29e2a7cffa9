"""How far a run is: with another number of processes, with steps of several micro-batches, after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from vivant.training import snapshot
from vivant.training.config import TrainConfig
from vivant.training.trainer import Trainer

from .test_training import CPU, REGRESSION
from .two_processes import Regression


class Noted(Dataset):
    """Notes which micro-batches are asked for."""

    def __init__(self, inner: Dataset, seen: list[int]):
        self.inner, self.seen = inner, seen

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        self.seen.append(index)
        return self.inner[index]


class Watched(Regression):
    """Asks the trainer to stop, as a signal does, while it computes the micro-batch of that number in this part."""

    def __init__(self, stop_at: int = 0) -> None:
        super().__init__(rarely=False)
        self.stop_at, self.seen, self.trainer = stop_at, list[int](), None

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset:
        return Noted(super().dataset(config, rank, world_size), self.seen)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        self.stop_at -= 1
        if self.stop_at == 0 and self.trainer is not None:
            self.trainer.stopped = True
        return super().losses(batch, progress)


def part(config: TrainConfig, folder: Path, stop_at: int = 0) -> tuple[bool, list[int], list[dict[str, Any]]]:
    """Whether the run is complete after this part of it, the micro-batches it saw, and what it logged."""
    stage, rows = Watched(stop_at), list[dict[str, Any]]()
    stage.trainer = Trainer(stage, config, folder, CPU, rows.append)
    return stage.trainer.run(), stage.seen, rows


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """As many processes as it holds under "count", all of which do what the first one does."""
    told = {"count": 1}

    @contextmanager
    def group(device: torch.device) -> Iterator[tuple[int, int]]:
        yield 0, told["count"]

    def alike(value: Any, *_: Any) -> Any:
        return value

    home = "vivant.training.trainer."
    monkeypatch.setattr(home + "process_group", group)
    monkeypatch.setattr(
        home + "gather_bytes", lambda state, *_: [state.clone() for _ in range(told["count"])]
    )
    for name in ("any_rank", "average_gradients", "barrier", "broadcast_parameters"):
        monkeypatch.setattr(home + name, alike)
    return told


@pytest.mark.parametrize(("before", "after", "steps"), [(1, 2, (6, 2)), (2, 1, (4, 2))])
def test_a_run_goes_on_with_another_number_of_processes(
    before: int, after: int, steps: tuple[int, int], tmp_path: Path, processes: dict[str, int]
) -> None:
    """Of 80 images: 60 % by one process and the rest by two; 80 % by two and the rest by one."""
    config = replace(REGRESSION, num_images=80, checkpoint_minutes=9, log_steps=1)
    processes["count"] = before
    done, first, begun = part(config, tmp_path, stop_at=steps[0])
    assert not done
    processes["count"] = after
    done, second, rest = part(config, tmp_path)
    assert done
    # Each snapshot draws batch 0.
    assert first == [*range(steps[0]), 0]
    assert second == [*range(steps[0], sum(steps)), 0], "nothing is seen twice, nothing is left out"
    images = [row["images"] for row in begun + rest]
    sizes = [8 * before] * steps[0] + [8 * after] * steps[1]
    assert images == [sum(sizes[: n + 1]) for n in range(len(sizes))]
    rates = [row["rate"] for row in begun + rest]
    assert rates == sorted(rates, reverse=True), "the schedule goes on, and does not jump back"
    assert rates[steps[0] - 1] > rates[-1] == config.final_learning_rate


class Hazy(Watched):
    """Draws noise in every micro-batch: one that is computed and then forgotten would show in all that follow."""

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return super().losses(batch | {"x": batch["x"] + torch.randn_like(batch["x"])}, progress)


def test_steps_of_several_micro_batches_are_whole(tmp_path: Path) -> None:
    """100 images in steps of 16: the last one is whole too. Stopped within a step, a run ends with the same bits."""
    config = replace(REGRESSION, num_images=100, accumulate=2, checkpoint_minutes=9)
    torch.manual_seed(0)
    whole, stage = tmp_path / "whole", Hazy()
    assert Trainer(stage, config, make(whole), CPU).run()
    assert stage.seen == [*range(14), 0]
    assert snapshot.load(whole)[1]["images"] == 112
    pieces, first = tmp_path / "pieces", Hazy(stop_at=5)
    first.trainer = Trainer(first, config, make(pieces), CPU)
    assert not first.trainer.run()
    assert snapshot.load(pieces)[1]["images"] == 48, "it has finished the step"
    assert Trainer(Hazy(), config, pieces, CPU).run()
    ends = [load_file(folder / "snapshot.safetensors") for folder in (whole, pieces)]
    assert ends[0].keys() == ends[1].keys()
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []
    again = Hazy()
    assert Trainer(again, config, whole, CPU).run(), "what is complete stays so"
    assert again.seen == [0]


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Steps take a while, so that a worker's end is noticed before that of the step.
LONG_RUN = """
import sys, time
from dataclasses import replace
from pathlib import Path
from tests.training.test_trainer import CPU, REGRESSION, Regression, Trainer

class Slow(Regression):
    def losses(self, batch, progress):
        time.sleep(0.5)
        return super().losses(batch, progress)

config = replace(REGRESSION, num_images=8_000_000, num_workers=2, log_steps=1, checkpoint_minutes=99)
sys.exit(0 if not Trainer(Slow(rarely=False), config, Path(sys.argv[1]), CPU).run() else 3)
"""


def test_a_kill_of_the_whole_group_leaves_a_snapshot(tmp_path: Path) -> None:
    """As schedulers, `timeout` and service managers end a job: those who make batches get the signal too."""
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    line, stats = [sys.executable, "-c", LONG_RUN, str(tmp_path)], tmp_path / "stats.jsonl"
    with subprocess.Popen(
        line, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        try:
            until = time.monotonic() + 120
            while not (stats.exists() and stats.read_text()) and run.poll() is None:
                assert time.monotonic() < until, "no step in two minutes"
                time.sleep(0.05)
            os.killpg(run.pid, signal.SIGTERM)
            said = run.communicate(timeout=120)[1]
        finally:
            run.kill()
    assert run.returncode == 0, said
    found = snapshot.load(tmp_path)
    assert found is not None, "it was saved before it ended"
    rows = stats.read_text().splitlines()
    assert found[1]["step"] == json.loads(rows[-1])["step"] == len(rows), "with all that it had learned"

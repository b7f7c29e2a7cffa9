"""Debug recipes learn; a resumed run equals an uninterrupted one; several processes agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vivant
from vivant.engines.liveportrait.recipes import RECIPES, Recipe
from vivant.errors import CheckpointError, InputError
from vivant.training import snapshot
from vivant.training.data.portraits import Portraits, PortraitSettings, motion_labels
from vivant.training.data.sessions import find_sessions, map_session
from vivant.training.trainer import Trainer

from .synthetic import make_session, write_sessions

BACKGROUNDS = np.full((3, 64, 64, 3), [[[[90, 120, 150]]], [[[30, 40, 30]]], [[[200, 180, 190]]]], np.uint8)
CPU = torch.device("cpu")


def run(recipe: Recipe, folder: Path, minutes: float | None = None) -> list[dict]:
    sessions = [make_session(i) for i in range(3)]
    stage = recipe.build(sessions, BACKGROUNDS)
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    Trainer(stage, recipe.train, folder, CPU, rows.append).run(minutes)
    return rows


@pytest.mark.parametrize("name", ["debug_motion", "debug_generator"])
def test_debug_recipe_learns_and_its_export_is_an_engine(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = run(RECIPES[name](), tmp_path / "run")
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    lines = (tmp_path / "run" / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    engine = vivant.load(tmp_path / "run" / "export", device="cpu", dtype="float32")
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    state = engine.start(portrait)
    out = engine.step(state, torch.rand(1, 3, 64, 64))
    assert torch.isfinite(out).all()
    assert 0 <= out.min() <= out.max() <= 1


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    recipe = RECIPES["debug_generator"]()
    recipe = replace(recipe, train=replace(recipe.train, num_images=24, log_steps=1))
    torch.manual_seed(0)
    run(recipe, tmp_path / "whole")
    torch.manual_seed(0)
    for _ in range(10):
        run(recipe, tmp_path / "pieces", minutes=0)  # one step, then the time is up
        if snapshot.load(tmp_path / "pieces")[1]["images"] >= 24:
            break
        torch.rand(7)  # what happens between two runs must not matter
    whole = load_file(tmp_path / "whole" / "snapshot.safetensors")
    pieces = load_file(tmp_path / "pieces" / "snapshot.safetensors")
    assert whole.keys() == pieces.keys()
    different = [name for name in whole if not torch.equal(whole[name], pieces[name])]
    assert different == []


def test_a_batch_depends_on_its_index_only() -> None:
    settings = PortraitSettings(size_px=64, batch_size=2, seed=3)
    sessions = [make_session(i) for i in range(3)]
    first = Portraits(sessions, settings, BACKGROUNDS)
    again = Portraits(sessions, settings, BACKGROUNDS)
    again[0]
    for name, value in first[5].items():
        assert torch.equal(value, again[5][name]), name
    assert not torch.equal(first[5]["source"], first[6]["source"])
    other_rank = Portraits(sessions, settings, BACKGROUNDS, rank=1)
    assert not torch.equal(first[5]["source"], other_rank[5]["source"])


def test_labels_project_onto_the_rendered_points() -> None:
    from vivant.engines.liveportrait.motion_compact import project
    from vivant.training.data.compose import Window

    session = make_session(1)
    labels = motion_labels(session, 2, Window(50, 46, 70, angle=0.3), 1e6)
    one = {k: torch.from_numpy(v)[None] for k, v in labels.items()}
    got = project(one["canonical"], one["expression"], one["rotation"], one["scale"], one["translation"], 1e6)
    assert (got[..., :2] - one["points"]).abs().max() < 1e-4


def test_sessions_are_mapped_as_written(tmp_path: Path) -> None:
    folder = write_sessions(tmp_path, range(11, 14))
    assert [s.info.identity for s in find_sessions(folder, held_out=False)] == [12, 13]
    (held,) = find_sessions(folder, held_out=True)
    assert np.array_equal(held.rgba, make_session(11).rgba)
    broken = tmp_path / "0020_0.safetensors"
    broken.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match="0020_0"):
        map_session(broken)
    with pytest.raises(InputError, match="vivant studio"):
        find_sessions(tmp_path / "nothing", held_out=False)


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    (tmp_path / "snapshot.safetensors").write_bytes(b"not a snapshot")
    with pytest.raises(CheckpointError, match=r"snapshot\.safetensors"):
        snapshot.load(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicate", "fsdp"])
def test_two_processes_equal_one_with_the_whole_batch(sharding: str, tmp_path: Path) -> None:
    """Without batch norm, the mean gradient of two half batches is the gradient of the whole."""
    script = Path(__file__).with_name("two_processes.py")
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--standalone", str(script), sharding]
    subprocess.run([*command, str(tmp_path / "two")], check=True, env=env, timeout=240)
    subprocess.run([sys.executable, str(script), sharding, str(tmp_path / "one")], check=True, env=env)
    two = load_file(tmp_path / "two" / "snapshot.safetensors")
    one = load_file(tmp_path / "one" / "snapshot.safetensors")
    for name in one:
        if name.startswith(("network/", "average/")):
            assert torch.allclose(one[name], two[name], atol=1e-5), name

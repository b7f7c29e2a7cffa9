"""Debug recipes learn; a resumed run equals an uninterrupted one; several processes agree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import vivant
from vivant.engines import ENGINES
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.recipes import RECIPES, Recipe
from vivant.engines.liveportrait.stages_published import DEFAULT_WEIGHTS, PublishedStage
from vivant.errors import CheckpointError, InputError
from vivant.face.identity import load_identity
from vivant.training import snapshot
from vivant.training.config import ParameterGroup, TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings, motion_labels
from vivant.training.data.sessions import find_sessions, map_session
from vivant.training.identity import identity
from vivant.training.launch import find_recipe, train
from vivant.training.trainer import Trainer

from .synthetic import make_session, write_sessions
from .two_processes import Regression

COLOURS = np.uint8([[[[90, 120, 150]]], [[[30, 40, 30]]], [[[200, 180, 190]]]])
CPU = torch.device("cpu")


def backgrounds(size: int) -> np.ndarray:
    return np.tile(COLOURS, (1, size, size, 1))


def test_every_recipe_that_learns_from_pictures_says_their_size() -> None:
    """`train` tells the two kinds apart by it: a recipe that forgot it would be built without its data."""
    for family in (*ENGINES, "face"):
        home = "vivant.training.identity" if family == "face" else f"vivant.engines.{family}.recipes"
        for name in import_module(home).RECIPES:
            recipe = find_recipe(f"{family}/{name}")
            assert ("size_px" in recipe.train.extra) == hasattr(recipe, "find_data"), f"{family}/{name}"


def run(recipe: Recipe, folder: Path, more: Sequence[Any] = (), **limits: float) -> list[dict]:
    sessions = [*(make_session(i) for i in range(3)), *more]
    stage = recipe.build(sessions, backgrounds(int(recipe.train.extra["size_px"])))
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    Trainer(stage, recipe.train, folder, CPU, rows.append).run(**limits)
    return rows


@pytest.mark.parametrize("name", ["debug_motion", "debug_generator"])
def test_debug_recipe_learns_and_its_export_is_an_engine(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = run(RECIPES[name](), tmp_path / "run")
    assert float(torch.tensor(1e-40) * 1) > 0, "small numbers are the process's own again"
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


class Noisy(Regression):
    """Noise is learned from and drawn, and the files of the second snapshot are kept, as a kill would leave them."""

    def __init__(self, kept: Path | None = None) -> None:
        super().__init__(rarely=False)
        self.kept, self.num_exports = kept, 0

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        return super().losses({"x": batch["x"] + torch.randn_like(batch["x"])}, progress)

    def export(self, network: nn.Module, folder: Path) -> None:
        self.num_exports += 1
        torch.randn(3)
        if self.kept is not None and self.num_exports == 2:
            shutil.copytree(folder.parent, self.kept)

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return [torch.rand(3, 4, 4)]


REGRESSION = TrainConfig(
    name="regression",
    num_images=8 * 6,
    batch_size=8,
    groups=(ParameterGroup(modules=("",), learning_rate=1e-2),),
    precision="fp32",
    num_workers=0,
    warmup_images=1,
    checkpoint_minutes=0,
)
"""A snapshot after every step."""


def test_drawing_at_a_snapshot_does_not_change_the_run(tmp_path: Path) -> None:
    """A run that is killed after a snapshot sees the noise that it would have seen if it had gone on."""
    (tmp_path / "whole").mkdir()
    assert Trainer(Noisy(tmp_path / "killed"), REGRESSION, tmp_path / "whole", CPU).run()
    assert snapshot.load(tmp_path / "killed")[1]["step"] == 2
    assert Trainer(Noisy(), REGRESSION, tmp_path / "killed", CPU).run()
    whole, killed = (load_file(tmp_path / way / "snapshot.safetensors") for way in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    assert [name for name in whole if not torch.equal(whole[name], killed[name])] == []
    assert (tmp_path / "whole" / "pictures.png").is_file()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "other"}, "the recipe is regression there and other here"),
        ({"seed": 5}, "--seed is 0 there and 5 here"),
        ({"batch_size": 4}, "batch_size is 8 there and 4 here"),
        ({"num_images": 80}, r"--images\) is 48 there and 80 here"),
    ],
)
def test_the_folder_of_another_run_is_not_taken_over(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert Trainer(Noisy(), REGRESSION, tmp_path, CPU).run()
    before = (tmp_path / "snapshot.safetensors").read_bytes()
    with pytest.raises(InputError, match=said) as refused:
        Trainer(Noisy(), replace(REGRESSION, **change), tmp_path, CPU).run()
    assert str(tmp_path) in str(refused.value)
    assert "another folder as --out" in str(refused.value)
    assert (tmp_path / "snapshot.safetensors").read_bytes() == before
    # How it is computed may change, and how long the machine is lent for.
    other = replace(REGRESSION, checkpoint_minutes=9, log_steps=3, num_workers=1)
    assert Trainer(Noisy(), other, tmp_path, CPU).run(minutes=0, fit_minutes=5)


def test_a_run_of_other_networks_is_not_taken_over(tmp_path: Path) -> None:
    """Families share names of recipes."""
    Trainer(Noisy(), REGRESSION, tmp_path, CPU).run(minutes=0)
    wide, long = Noisy(), Noisy()
    wide.network[0] = nn.Linear(5, 16, bias=False)
    long.network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    for stage in (wide, long):
        with pytest.raises(InputError, match=r"other networks \(0\.(weight|bias) differs"):
            Trainer(stage, REGRESSION, tmp_path, CPU).run()


def test_optimiser_state_lies_as_training_leaves_it() -> None:
    """Moments in the layout of their weights; the number of steps where the kernel reads it."""
    weight = nn.Parameter(torch.randn(4, 3, 3, 3).contiguous(memory_format=torch.channels_last))
    first = torch.optim.AdamW([weight])
    weight.grad = torch.randn_like(weight)
    first.step()
    names = {id(weight): "weight"}
    saved = {k: v.contiguous() for k, v in snapshot.optimizer_tensors(first, names).items()}
    again = torch.optim.AdamW([weight], fused=True)
    snapshot.restore_optimizer(again, names, saved)
    for slot, value in again.state[weight].items():
        kept = first.state[weight][slot]
        assert torch.equal(value, kept), slot
        assert value.stride() == kept.stride(), slot
        assert value.untyped_storage().data_ptr() != saved[f"optimizer/weight/{slot}"].data_ptr(), slot
    # A device that computes nothing stands in for a GPU.
    far = nn.Parameter(torch.empty(4, 3, 3, 3, device="meta"))
    for fused, place in ((True, "meta"), (False, "cpu")):
        optimizer = torch.optim.AdamW([far])
        optimizer.param_groups[0]["fused"] = fused
        snapshot.restore_optimizer(optimizer, {id(far): "weight"}, saved)
        assert optimizer.state[far]["step"].device.type == place
        assert optimizer.state[far]["exp_avg"].device.type == "meta"


def test_a_run_fits_into_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["debug_generator"]()
    recipe = replace(recipe, train=replace(recipe.train, num_images=1_000_000, log_steps=1))
    seconds = iter(range(1000))
    monkeypatch.setattr("vivant.training.trainer.time.monotonic", lambda: float(next(seconds)))
    rows = run(recipe, tmp_path, fit_minutes=0.15)
    assert [row["seconds"] for row in rows] == list(range(1, 10)), "a second each, nine in all"
    rates = [row["rate"] for row in rows]
    assert rates[-1] < 0.1, "the schedule spans the time"
    assert rates[-1] < rates[4] < max(rates)


def test_a_batch_depends_on_its_index_only() -> None:
    settings = PortraitSettings(size_px=64, batch_size=2, seed=3)
    sessions = [make_session(i) for i in range(3)]
    first = Portraits(sessions, settings, backgrounds(64))
    again = Portraits(sessions, settings, backgrounds(64))
    again[0]
    for name, value in first[5].items():
        assert torch.equal(value, again[5][name]), name
    assert not torch.equal(first[5]["source"], first[6]["source"])
    other_rank = Portraits(sessions, settings, backgrounds(64), rank=1)
    assert not torch.equal(first[5]["source"], other_rank[5]["source"])


def test_making_a_batch_leaves_the_threads_alone() -> None:
    # numba.set_num_threads once started a pool that doubled torch's threads: steps became 5 times slower.
    settings = PortraitSettings(size_px=64, batch_size=1, seed=3)
    before = torch.get_num_threads()
    Portraits([make_session(0)], settings, backgrounds(64))[0]
    assert torch.get_num_threads() == before


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


def regress(*arguments: str | Path, processes: int = 1) -> dict[str, Tensor]:
    """The last snapshot of the program two_processes with these arguments."""
    script = Path(__file__).with_name("two_processes.py")
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    launcher = ["-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    launcher += ["--master-port", "0", "--standalone"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), *map(str, arguments)]
    subprocess.run(command, check=True, env=env, timeout=240)
    return load_file(Path(arguments[1]) / "snapshot.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicate", "rarely", "fsdp"])
def test_two_processes_equal_one_with_the_whole_batch(sharding: str, tmp_path: Path) -> None:
    """Without batch norm, the mean gradient of two half batches is the gradient of the whole.

    rarely: also where only one of the two uses a parameter.
    """
    two = regress(sharding, tmp_path / "two", processes=2)
    one = regress("rarely" if sharding == "rarely" else "replicate", tmp_path / "one")
    for name in one:
        if name.startswith(("network/", "average/")):
            assert torch.allclose(one[name], two[name], atol=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["replicate", "fsdp"])
def test_two_processes_go_on_where_they_stopped(sharding: str, tmp_path: Path) -> None:
    whole = regress(sharding, tmp_path / "whole", processes=2)
    begun = regress(sharding, tmp_path / "pieces", "0", processes=2)
    assert float(begun["optimizer/0.weight/step"]) == 1
    pieces = regress(sharding, tmp_path / "pieces", processes=2)
    assert whole.keys() == pieces.keys()
    assert [name for name in whole if not torch.equal(whole[name], pieces[name])] == []


def test_published_stage1_runs_every_term(tmp_path: Path) -> None:
    """All terms of the paper at test size, with given feature and identity networks; its export animates."""
    recipe = RECIPES["debug_published_stage1"]()
    torch.manual_seed(0)
    sessions = [make_session(i) for i in range(2)]
    networks = PublishedNetworks(recipe.config)
    settings = replace(recipe.train, num_images=4, extra=recipe.train.extra | {"weights": {}})
    flat = torch.nn.Linear(3 * 16 * 16, 8).requires_grad_(False)
    stage = PublishedStage(
        recipe.config,
        sessions,
        backgrounds(256),
        networks,
        features=lambda image: [torch.nn.functional.avg_pool2d(image, 8)],
        embed=lambda image: flat(torch.nn.functional.adaptive_avg_pool2d(image, 16).flatten(1)),
        settings=settings,
    )
    rows: list[dict] = []
    before = {k: v.clone() for k, v in stage.network.named_parameters()}
    Trainer(stage, settings, tmp_path, CPU, rows.append).run()
    assert set(rows[-1]["terms"]) == set(DEFAULT_WEIGHTS)
    assert all(np.isfinite(value) for value in rows[-1]["terms"].values())
    moved = {
        tuple(k.split(".")[:2]) for k, v in stage.network.named_parameters() if not torch.equal(v, before[k])
    }
    parts = {tuple(k.split(".")[:2]) for k in before}
    assert parts - moved == {("networks", "stitching")}, "all but the module of stage II learn"
    engine = vivant.load(tmp_path / "export", device="cpu", dtype="float32")
    assert engine.config == recipe.config


def test_an_unknown_term_is_refused() -> None:
    recipe = RECIPES["debug_published_stage1"]()
    wrong = replace(
        recipe, train=replace(recipe.train, extra={"weights": {"gann": 1.0, "face_identity": 0.0}})
    )
    with pytest.raises(ValueError, match="gann"):
        wrong.build([], backgrounds(256))


def test_recipes_switch_terms_off(tmp_path: Path) -> None:
    rows = run(RECIPES["debug_published_stage1"](), tmp_path / "run", minutes=0)
    assert "perceptual" not in rows[-1]["terms"]
    assert "gan_lip" in rows[-1]["terms"]


def test_identity_embedding_tells_people_apart(tmp_path: Path) -> None:
    sessions = [make_session(i) for i in range(6)]
    recipe = identity(num_images=6 * 120, batch_size=6)
    recipe = replace(recipe, train=replace(recipe.train, num_workers=0, log_steps=10, extra={"size_px": 64}))
    torch.manual_seed(0)
    rows: list[dict] = []
    Trainer(recipe.build(sessions, backgrounds(64)), recipe.train, tmp_path, CPU, rows.append).run()
    assert np.mean([r["loss"] for r in rows[-3:]]) < 0.85 * np.mean([r["loss"] for r in rows[:3]])
    network = load_identity(tmp_path / "export" / "identity.safetensors")
    vectors = network(torch.rand(2, 3, 80, 80))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    with pytest.raises(CheckpointError, match="identity"):
        load_identity(tmp_path / "none.safetensors")


def test_a_recipe_is_found_by_name() -> None:
    for name, make in RECIPES.items():
        recipe = find_recipe(f"liveportrait/{name}")
        assert recipe == make()
        assert recipe.train.name == name
    assert find_recipe("face/identity").train.extra["size_px"] == 96
    with pytest.raises(InputError, match="mini_motion"):
        find_recipe("liveportrait/maxi_motion")
    with pytest.raises(InputError, match="liveportrait"):
        find_recipe("mini_motion")


def test_training_by_name_goes_on_where_it_stopped(tmp_path: Path) -> None:
    data = write_sessions(tmp_path / "data", range(12, 14))
    assert not train("liveportrait/debug_motion", data, tmp_path / "run", minutes=0, device="cpu")
    first = snapshot.load(tmp_path / "run")[1]["images"]
    assert not train("liveportrait/debug_motion", data, tmp_path / "run", minutes=0, device="cpu")
    assert snapshot.load(tmp_path / "run")[1]["images"] > first
    second = train(
        "liveportrait/debug_generator",
        data,
        tmp_path / "next",
        init=tmp_path / "run" / "export",
        minutes=0,
        device="cpu",
    )
    assert not second

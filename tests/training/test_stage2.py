"""Stage II: its terms, its recipe, resuming, and one checkpoint with everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vivant
from vivant import checkpoint
from vivant.engines.liveportrait import losses
from vivant.engines.liveportrait.config import Options, tiny
from vivant.engines.liveportrait.networks_compact import CompactNetworks
from vivant.engines.liveportrait.recipes import RECIPES
from vivant.engines.liveportrait.recipes_stage2 import RetargetingRecipe
from vivant.errors import CheckpointError
from vivant.session import Session
from vivant.training import snapshot

from .synthetic import make_session
from .test_training import backgrounds, run


def debug() -> RetargetingRecipe:
    recipe = RECIPES["debug_stage2"]()
    assert isinstance(recipe, RetargetingRecipe)
    return recipe


def test_debug_recipe_learns_and_its_export_opens_eyes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = run(debug(), tmp_path / "run")
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    engine = vivant.load(tmp_path / "run" / "export", device="cpu", dtype="float32")
    portrait = engine.prepare(torch.rand(3, 64, 64), face=None)
    driving = torch.rand(3, 64, 64)
    frames = [
        Session(engine, portrait, options).push(driving)[0]
        for options in (Options(eyes_open=0.4), Options(eyes_open=0.0))
    ]
    assert all(bool(torch.isfinite(frame).all()) for frame in frames)
    assert not torch.equal(*frames)


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    recipe = debug()
    recipe = replace(recipe, train=replace(recipe.train, num_images=12, log_steps=1))
    torch.manual_seed(0)
    run(recipe, tmp_path / "whole")
    torch.manual_seed(0)
    for _ in range(5):
        run(recipe, tmp_path / "pieces", minutes=0)
        if snapshot.load(tmp_path / "pieces")[1]["images"] >= 12:
            break
        torch.rand(7)
    whole, pieces = (load_file(tmp_path / name / "snapshot.safetensors") for name in ("whole", "pieces"))
    assert whole.keys() == pieces.keys()
    assert [name for name in whole if not torch.equal(whole[name], pieces[name])] == []


def test_each_network_learns_from_its_own_terms_and_the_rest_is_frozen() -> None:
    recipe = debug()
    torch.manual_seed(0)
    stage = recipe.build([make_session(i) for i in range(2)], backgrounds(64))
    networks = stage.networks
    assert isinstance(networks, CompactNetworks)
    assert networks.retargeting is not None
    networks.requires_grad_(False)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    networks.retargeting.requires_grad_(True)
    batch = stage.dataset(recipe.train, 0, 1)[0]
    terms = stage.losses(batch, 0.0)
    taught = {"eyes_condition": "eyes", "lips_condition": "lips"}
    for term, name in taught.items():
        networks.zero_grad()
        terms[term].backward(retain_graph=True)
        got = {
            part: sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)
            for part, module in networks.retargeting.named_children()
        }
        assert got[name] > 0, term


def test_starting_from_a_checkpoint_without_the_networks(tmp_path: Path) -> None:
    recipe = RECIPES["mini_stage2"]()
    assert isinstance(recipe, RetargetingRecipe)
    checkpoint.save(tmp_path, "liveportrait", tiny(), CompactNetworks(tiny()))
    with pytest.raises(CheckpointError, match="another architecture"):
        recipe.build([], backgrounds(64), tmp_path)


def test_masks_hold_what_may_change() -> None:
    points = torch.zeros(1, 81, 2)
    points[0, :17, 1] = torch.cat([torch.linspace(-0.2, 0.4, 9), torch.linspace(0.35, -0.2, 8)])
    points[0, [*range(17, 22), *range(36, 42)]] = torch.tensor([-0.3, -0.3])
    points[0, [*range(22, 27), *range(42, 48)]] = torch.tensor([0.3, -0.3])
    shoulders = losses.shoulder_mask(points, 64)
    assert float(shoulders[0, 0, :44].max()) == 0  # chin at 0.4, row 44.8
    assert float(shoulders[0, 0, 50:].min()) == 1
    eyes, lips = losses.opening_masks(points, 64)
    assert float(eyes[0, 0, 22, 22]) == 1
    assert float(eyes[0, 0, 60, 60]) == float(lips[0, 0, 60, 60]) == 0
    assert float(losses.masked_l1(torch.ones(1, 3, 64, 64), torch.zeros(1, 3, 64, 64), shoulders)) == 1

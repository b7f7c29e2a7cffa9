"""Training: the recipe learns and its export is an engine; masks, dropout and data are what they should be."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vivant
from vivant.engines.flashportrait import losses
from vivant.engines.flashportrait.config import tiny
from vivant.engines.flashportrait.data import (
    EYES,
    MOUTH_CORNERS,
    NOSE_TIP,
    Clips,
    ClipSettings,
    LargeFaces,
    SharpPictures,
)
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.motion import ALIGNED_POINTS
from vivant.engines.flashportrait.recipes import RECIPES, debug, published_14b
from vivant.engines.flashportrait.stages import FlowStage
from vivant.errors import InputError
from vivant.studio.dataset import Session
from vivant.training.data.sessions import find_talking_clips
from vivant.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from training.synthetic import make_session, write_clips

SETTINGS = ClipSettings(size_px=32, face_px=64, num_frames=13, batch_size=2, seed=3)


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return [make_session(identity, num_frames=16) for identity in range(2)]


@pytest.fixture(scope="module")
def backgrounds() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def stage(sessions: list[Session], backgrounds: np.ndarray) -> FlowStage:
    torch.manual_seed(0)
    return debug().build(sessions, backgrounds)


def test_the_debug_recipe_learns_and_its_export_is_an_engine(stage: FlowStage, tmp_path: Path) -> None:
    rows: list[dict] = []
    assert Trainer(stage, debug().train, tmp_path, torch.device("cpu"), rows.append).run()
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    engine = vivant.load(tmp_path / "export", device="cpu", dtype="float32")
    assert isinstance(engine, FlashPortrait)
    state = engine.start(engine.prepare(torch.rand(3, 32, 32), face=None))
    engine.render(state, engine.encode_motion(state, torch.rand(1, 3, 32, 32)))
    assert torch.isfinite(engine.flush(state)).all()


def test_only_the_named_parts_train(stage: FlowStage, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in stage.network.state_dict().items()}
    train = replace(debug().train, num_images=8)
    Trainer(stage, train, tmp_path, torch.device("cpu")).run()
    moved = {
        name.split(".")[0]
        for name, value in stage.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert moved == {"transformer", "portrait_encoder"}


def test_a_batch_depends_on_its_index_only(sessions: list[Session], backgrounds: np.ndarray) -> None:
    first, again = (Clips(sessions, backgrounds, SETTINGS) for _ in range(2))
    again[0]
    for name, value in first[4].items():
        assert torch.equal(value, again[4][name]), name
    assert not torch.equal(first[4]["frames"], Clips(sessions, backgrounds, SETTINGS, rank=1)[4]["frames"])
    batch = first[4]
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "frames": (2, 13, 32, 32, 3),
        "faces": (2, 13, 64, 64, 3),
        "face": (2, 13, 32, 32),
        "lips": (2, 13, 32, 32),
        "points": (2, 13, 68, 2),
    }
    assert not (batch["lips"] > batch["face"]).any(), "lips are part of the face"
    assert 0 < batch["lips"].float().mean() < batch["face"].float().mean() < 1


def test_short_sessions_stand_still_and_poor_ones_are_left_out(backgrounds: np.ndarray) -> None:
    short = make_session(0, num_frames=3)
    frames = Clips([short], backgrounds, SETTINGS)[0]["face"]
    assert torch.equal(frames[:, 2], frames[:, 12])
    assert LargeFaces(1)(short)
    assert not LargeFaces(1000)(short)
    assert SharpPictures(1)(short)
    assert not SharpPictures(1e9)(short)
    with pytest.raises(InputError, match="none of the 1 sessions passes"):
        Clips([short], backgrounds, replace(SETTINGS, filters=(LargeFaces(1000),)))


def test_weights_and_times() -> None:
    face = torch.zeros(1, 5, 8, 8)
    face[:, :, 2:6, 2:6] = 1
    small = losses.latent_mask(face, 2, (4, 4))
    assert small.shape == (1, 1, 2, 4, 4)
    assert float(small[..., 1:3, 1:3].min()) > 0.5 > float(small[..., 0, 0].max())
    ones = torch.ones_like(small)
    assert torch.equal(losses.loss_weights(small, ones, "whole"), small + 2)
    assert torch.equal(losses.loss_weights(small, ones, "face"), small)
    assert torch.equal(losses.loss_weights(small, ones, "lips"), ones)
    draws = [losses.focus_of(draw) for draw in np.linspace(0, 1, 1000, endpoint=False)]
    assert {name: round(draws.count(name) / 1000, 2) for name in losses.SHARES} == losses.SHARES
    times = losses.training_times(20_000, 5.0, torch.Generator().manual_seed(0))
    assert 0 < float(times.min()) < float(times.max()) == 1
    # Half of the table lies above 5 * 0.5 / (1 + 4 * 0.5).
    assert abs(float(times.median()) - 5 / 6) < 0.01


def test_a_still_error_costs_no_temporal_loss() -> None:
    target = torch.randn(1, 4, 3, 2, 2)
    still = losses.flow_matching(target + 1, target, torch.ones(1, 1, 3, 2, 2))
    assert float(still["temporal"]) == pytest.approx(0, abs=1e-10)
    assert float(still["flow"]) == pytest.approx(0.75, abs=1e-5)
    weighted = losses.flow_matching(target + 1, target, torch.full((1, 1, 3, 2, 2), 2.0))
    assert float(weighted["flow"]) == pytest.approx(1.5, abs=1e-5)
    assert set(losses.flow_matching(target[:, :, :1], target[:, :, :1], torch.ones(1))) == {"flow"}


def test_the_driver_is_left_out_now_and_then(stage: FlowStage) -> None:
    torch.manual_seed(1)
    channels = 42 + tiny().face_features.mouth_channels
    tokens = torch.cat([stage._expression(torch.randn(50, 5, channels)) for _ in range(8)])
    silent = tokens.flatten(1).abs().sum(1) == 0
    assert 0.04 < float(silent.float().mean()) < 0.18


def test_checkpointing_changes_no_gradient(
    stage: FlowStage, sessions: list[Session], backgrounds: np.ndarray
) -> None:
    batch = Clips(sessions, backgrounds, SETTINGS)[0]

    def gradient() -> Tensor:
        torch.manual_seed(5)
        stage.network.zero_grad()
        sum(stage.losses(batch, 0.0).values(), torch.zeros(())).backward()
        return stage.network.transformer.blocks[0].attn2.emo_v_proj.weight.grad.clone()  # type: ignore[union-attr]

    stage.network.transformer.blocks[0].attn2.emo_k_proj.weight.data.normal_()  # type: ignore[union-attr]
    saving = gradient()
    stage.network.transformer.gradient_checkpointing = False
    torch.testing.assert_close(gradient(), saving)
    assert float(saving.abs().sum()) > 0


def test_dry_runs() -> None:
    sizes = published_14b().dry_run()
    assert round(sizes["trained"] / 1e9, 2) == 11.49, "11.33 G of attention and 0.16 G of portrait encoder"
    assert sizes["parameters"] > 18e9
    for name in ("medium_1b", "mini_flow"):
        assert RECIPES[name]().dry_run()["trained"] > 0
    assert RECIPES["mini_flow"]().dry_run()["parameters"] < 7.5e6


@pytest.mark.parametrize(
    ("name", "part"), [("debug_vae", "vae"), ("debug_face", "face_features"), ("mini_chain", "transformer")]
)
def test_what_comes_before_learns_from_talking_clips(name: str, part: str, tmp_path: Path) -> None:
    """Each its own part, and hands on networks that the next recipe and an engine take."""
    recipe = RECIPES["debug"]() if name == "mini_chain" else RECIPES[name]()
    recipe = replace(recipe, talks=True)
    clips = recipe.find_data(write_clips(tmp_path / "clips", range(12, 14)))
    torch.manual_seed(0)
    stage = recipe.build(clips, np.zeros((1, 32, 32, 3), np.uint8))
    before = {key: value.clone() for key, value in stage.network.named_parameters()}
    rows: list[dict] = []
    Trainer(stage, recipe.train, tmp_path, torch.device("cpu"), rows.append).run()
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    moved = {key for key, value in stage.network.named_parameters() if not torch.equal(before[key], value)}
    found = {key.removeprefix("networks.").split(".")[0] for key in moved}
    assert found - {"readers", "portrait_encoder"} == {part}
    again = recipe.build(clips, np.zeros((1, 32, 32, 3), np.uint8), tmp_path / "export")
    assert again.network.state_dict().keys() == stage.network.state_dict().keys()


def test_points_of_a_clip_lie_in_its_aligned_faces(tmp_path: Path) -> None:
    clips = find_talking_clips(write_clips(tmp_path, range(12, 13)))
    batch = Clips(clips, np.zeros((1, 32, 32, 3), np.uint8), SETTINGS)[0]
    assert batch["expression"].shape == (2, 13, 53)
    five = [batch["points"][0, 0, list(eye)].mean(0) for eye in EYES]
    five += [batch["points"][0, 0, index] for index in (NOSE_TIP, *MOUTH_CORNERS)]
    wanted = torch.from_numpy(ALIGNED_POINTS).float() * 2 - 1
    near = (torch.stack(five) - wanted - 1 / 64).abs().mean()
    assert near < 0.3, "as near as a similarity brings these made-up points"

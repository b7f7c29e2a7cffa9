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
from vivant.engines.flashportrait.caches import VaeCache
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
from vivant.engines.flashportrait.kept import (
    aligned_faces,
    keep,
    placed,
    wobbled,
)
from vivant.engines.flashportrait.motion import ALIGNED_POINTS
from vivant.engines.flashportrait.recipes import RECIPES, debug, published_14b
from vivant.engines.flashportrait.stages import FlowStage
from vivant.engines.flashportrait.stages_talking import TalkingFlowStage
from vivant.errors import InputError
from vivant.face.align import similarity, warped
from vivant.ops.bending import bent, placement
from vivant.studio.dataset import Session
from vivant.training.data.mirror import MIRRORED
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
    ("name", "part"),
    [
        ("debug_face", "face_features"),
        ("debug_flow", "transformer"),
        ("debug_decoder", "vae"),
    ],
)
def test_what_comes_before_learns_from_talking_clips(name: str, part: str, tmp_path: Path) -> None:
    """Each its own part, and hands on networks that the next recipe and an engine take."""
    recipe = RECIPES[name]()
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
    kept = keep(find_talking_clips(write_clips(tmp_path, range(12, 13))), 32, torch.device("cpu"))
    matrices = kept.alignments[0, :2]
    points = placed(kept.points[0, :2], matrices, 64)
    five = [points[0, list(eye)].mean(0) for eye in EYES]
    five += [points[0, index] for index in (NOSE_TIP, *MOUTH_CORNERS)]
    wanted = torch.from_numpy(ALIGNED_POINTS).float() * 2 - 1
    near = (torch.stack(five) - wanted - 1 / 64).abs().mean()
    assert near < 0.3, "as near as a similarity brings these made-up points"
    one = kept.points[0, 0].numpy()
    own = np.stack([*(one[list(eye)].mean(0) for eye in EYES), *one[[NOSE_TIP, *MOUTH_CORNERS]]])
    matrix = similarity(own, ALIGNED_POINTS * 64)
    np.testing.assert_allclose(matrices[0] * 64, matrix, atol=1e-4)
    face = warped(kept.frames[0].numpy(), matrix, 64) / 127.5 - 1
    ours = aligned_faces(kept.frames[:2], matrices, 64)[0].permute(1, 2, 0)
    assert float((ours - torch.from_numpy(face)).abs().mean()) < 0.01


def test_a_mirror_has_points_where_they_belong(tmp_path: Path) -> None:
    kept = keep(find_talking_clips(write_clips(tmp_path, range(12, 13))), 32, torch.device("cpu"))
    rows, both = torch.tensor([0, 0]), torch.tensor([False, True])
    plain, mirrored = kept.points[:, 0]
    assert sorted(MIRRORED.tolist()) == list(range(68))
    assert (MIRRORED[MIRRORED] == np.arange(68)).all()
    assert torch.allclose(mirrored[36, 0], 31 - plain[45, 0])
    pictures = kept.cut(kept.frames, rows[:, None], both, None, 32)[:, 0]
    assert torch.equal(pictures[0], kept.frames[0])
    assert torch.equal(pictures[1], kept.frames[0].flip(1))
    corner = torch.tensor([[0.99, 0.0], [0.99, 0.0]])
    cut = kept.cut(kept.frames, rows[:, None], both, corner, 24)[:, 0]
    assert torch.equal(cut[0], kept.frames[0, :24, 8:])
    assert torch.equal(cut[1], kept.frames[0].flip(1)[:24, 8:])


def test_windows_are_cut_from_streams(tmp_path: Path) -> None:
    recipe = RECIPES["debug_flow"]()
    clips = recipe.find_data(write_clips(tmp_path, range(12, 14), num_frames=26))
    torch.manual_seed(0)
    stage = recipe.build(clips, np.zeros(0))
    assert isinstance(stage, TalkingFlowStage)
    first, again = (stage.dataset(recipe.train, 0, 1) for _ in range(2))
    for name, value in first[4].items():
        assert torch.equal(value, again[4][name]), name
    networks, streams, plan = stage.network.eval(), stage.streams(torch.device("cpu")), stage.plan
    assert plan.num_latents.max() == 7
    assert plan.num_latents.min() >= 4
    index = int(plan.num_latents.argmax())
    assert plan.first[index] == 0
    assert not plan.mirrored[index]
    window = streams.window({"stream": torch.tensor([index]), "latent": torch.tensor([2])})
    kept = stage.kept(torch.device("cpu"))
    start = int(kept.starts[plan.clip[index]])
    video = kept.frames[None, start : start + 25].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.no_grad():
        latents = networks.vae.encode_piece(video, VaeCache())  # type: ignore[operator, union-attr]
        assert float(latents.square().mean()) > 0.1
        matrices = kept.alignments[0, start : start + 25]
        moved = bent(video[:, :, 0], matrices[:1], placement(matrices[:1], matrices)[None])
        known = networks.vae.encode_piece(moved, VaeCache())  # type: ignore[operator, union-attr]
        torch.testing.assert_close(window.latents, (latents - known)[:, :, 2:6], atol=1e-4, rtol=1e-4)
        drawn = stage._latents(window.latents, window)
        torch.testing.assert_close(drawn, latents[:, :, 2:6], atol=1e-4, rtol=1e-4)
        assert window.features.shape == (1, 13, 48 + tiny().face_features.mouth_channels)
        matrix = wobbled(kept.alignments[:1, start], torch.from_numpy(plan.wobble[index])[None])
        # The window's first latent is told of its last frame.
        face = aligned_faces(kept.frames[start + 8][None], matrix, tiny().face_features.image_size)
        torch.testing.assert_close(
            window.features[:, 0, :-6],
            networks.face_features(face),
            atol=1e-4,
            rtol=1e-4,  # type: ignore[operator]
        )
    assert torch.equal(window.references[0], kept.frames[start].permute(2, 0, 1).float() / 255)
    assert torch.equal(window.last[0], kept.frames[start + 20].permute(2, 0, 1).float() / 255)
    assert 0 < float(window.lips.sum()) < float(window.face.sum())


def test_parts_count_as_much_as_their_shares() -> None:
    face, lips = torch.zeros(2, 1, 2, 8, 8), torch.zeros(2, 1, 2, 8, 8)
    face[..., 2:6, 2:6], lips[..., 5:6, 3:5] = 1, 1
    weights = losses.shared_weights(face, lips)
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    assert float((weights * lips).mean()) > losses.SHARES["lips"]


def test_a_run_on_streams_goes_on_where_it_stopped(tmp_path: Path) -> None:
    recipe = RECIPES["debug_flow"]()
    train = replace(recipe.train, num_images=24)
    clips = recipe.find_data(write_clips(tmp_path / "clips", range(12, 14)))

    def run(folder: Path, stop: bool) -> Tensor:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        stage = recipe.build(clips, np.zeros(0))
        assert Trainer(stage, train, folder, torch.device("cpu")).run(0.0 if stop else None) is not stop
        return torch.cat([value.detach().flatten() for value in stage.network.parameters()])

    whole = run(tmp_path / "whole", False)
    run(tmp_path / "parts", True)
    torch.testing.assert_close(run(tmp_path / "parts", False), whole)

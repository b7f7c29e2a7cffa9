"""Pictures that stay on the device: they are those of the data workers, cut by numbers alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

import vivant
from vivant.engines.personalive.config import tiny
from vivant.engines.personalive.data import ClipCuts, Clips, ClipSettings, share, shared_draws, told
from vivant.engines.personalive.merge import merge
from vivant.engines.personalive.recipes import RECIPES, Recipe
from vivant.engines.personalive.resident import ResidentClips, ResidentFrames, Shots
from vivant.errors import CheckpointError, InputError
from vivant.training.data.portraits import Portraits, PortraitSettings
from vivant.training.data.sessions import find_talking_clips
from vivant.training.launch import train
from vivant.training.trainer import Trainer

from .synthetic import SIZE, make_session, write_clips, write_sessions

CPU = torch.device("cpu")
BACKGROUNDS = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
SESSIONS = [make_session(identity) for identity in range(3)]
PLAIN = PortraitSettings(size_px=64, batch_size=4, seed=0, augment=False, pairs=False, camera_distance=1e6)


def test_a_picture_and_its_labels_are_those_of_the_data_workers() -> None:
    shots = Shots(SESSIONS, PLAIN, len(BACKGROUNDS))[0]
    made = ResidentFrames.of(SESSIONS, PLAIN, BACKGROUNDS, CPU).batch(shots)
    for row, frame in enumerate(shots["frame"][:, 0].tolist()):
        behind = BACKGROUNDS[int(shots["background"][row])][None]
        own = Portraits(SESSIONS, PLAIN, behind).single(
            SESSIONS[frame // 4], frame % 4, np.random.default_rng(0)
        )
        assert np.abs(made["image"][row].numpy().astype(int) - own["image"]).mean() < 0.6
        for name in ("rotation", "scale", "translation", "canonical"):
            np.testing.assert_allclose(made[name][row], own[name], atol=2e-4, err_msg=name)
        np.testing.assert_allclose(made["points"][row], own["points"][:68], atol=1e-4)


def test_labels_follow_the_crop() -> None:
    settings = replace(PLAIN, augment=True, batch_size=16, crop_scale=0.8)
    made = ResidentFrames.of(SESSIONS, settings, BACKGROUNDS, CPU).batch(Shots(SESSIONS, settings, 3)[0])
    assert float(made["scale"].std()) > 0.01
    flat = (made["canonical"] @ made["rotation"])[:, :68, :2]
    posed = flat * made["scale"][..., None] + made["translation"][:, None, :2]
    # What is left is expression, which is 0.03 in units of 10 cm.
    assert float((posed - made["points"]).abs().mean()) < 0.02


def test_pairs_are_of_one_person_and_shots_can_be_repeated() -> None:
    settings = replace(PLAIN, pairs=True, augment=True, contrast=0.5, batch_size=32)
    shots = Shots(SESSIONS, settings, 3)
    one, again, later = shots[0], shots[0], shots[1]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["frame"], later["frame"])
    assert torch.equal(one["frame"][:, 0] // 4, one["frame"][:, 1] // 4)
    assert not torch.equal(one["frame"], Shots(SESSIONS, settings, 3, rank=1)[0]["frame"])
    frames = ResidentFrames.of(SESSIONS, settings, BACKGROUNDS, CPU)
    torch.manual_seed(0)
    made = frames.batch(one)
    torch.manual_seed(0)
    assert torch.equal(made["driving"], frames.batch(again)["driving"])
    assert made["reference"].shape == (32, 64, 64, 3)
    assert made["driving"].shape == (32, 1, 64, 64, 3)
    assert made["points"].shape == (32, 1, 68, 2)
    other = replace(SESSIONS[0], info=replace(SESSIONS[0].info, size=64))
    with pytest.raises(InputError, match="one size"):
        ResidentFrames.of([*SESSIONS, other], settings, BACKGROUNDS, CPU)


def test_contrast_prefers_other_expressions() -> None:
    expression = np.concatenate([session.expression for session in SESSIONS])

    def change(contrast: float) -> float:
        settings = replace(PLAIN, pairs=True, contrast=contrast, batch_size=256)
        frames = Shots(SESSIONS, settings, 3)[0]["frame"].numpy()
        return float(np.abs(expression[frames[:, 0]] - expression[frames[:, 1]]).sum(-1).mean())

    assert change(1.0) > 1.2 * change(0.0)


def test_clips_are_those_of_the_data_workers(tmp_path: Path) -> None:
    paths = find_talking_clips(write_clips(tmp_path, range(12, 15)))
    settings = ClipSettings(size_px=64, batch_size=2, seed=0, num_frames=4, stride=3, updates_per_clip=2)
    clips, cuts = Clips(paths, settings), ClipCuts(paths, settings)
    resident = ResidentClips.of(paths, 64, CPU)
    for index in (0, 1, 5):
        wanted, got = clips[index], resident.batch(cuts[index])
        assert wanted.keys() == got.keys()
        assert len(got["phase"]) == index % 2
        for name in ("reference", "driving", "points"):
            assert torch.equal(wanted[name], got[name])


def test_numbers_for_the_program_pass_through_workers() -> None:
    draws = [shared_draws(3, index) for index in range(50)]
    numbers = [share(draw["draw_depth"]) for draw in draws]
    assert 0 <= min(numbers) < 0.2
    assert 0.8 < max(numbers) < 1
    assert share(shared_draws(3, 7)["draw_depth"]) == numbers[7]
    items = DataLoader([{"phase": told(number)} for number in (0, 2)], batch_size=None, num_workers=1)  # type: ignore[arg-type]
    assert [len(item["phase"]) for item in items] == [0, 2]


def small(name: str, num_images: int) -> Recipe:
    """A GPU recipe for a moment on a CPU: the tiny networks, few pictures."""
    recipe = RECIPES[name]()
    frames = {"num_frames": 10, "stride": 1} if "stage3" in name else {}
    extra = {**recipe.train.extra, "size_px": 64, **frames}
    extra |= {"channel_base": 512} if "channel_base" in extra else {}
    settings = replace(recipe.train, num_images=num_images, batch_size=4, warmup_images=1, log_steps=1)
    return replace(recipe, train=replace(settings, extra=extra), config=tiny())


def run(recipe: Recipe, folder: Path, init: Path | None = None, minutes: float | None = None) -> list[dict]:
    data = SESSIONS
    if "stage3" in recipe.train.name:
        data = find_talking_clips(write_clips(folder.parent / "clips", range(12, 15)))  # type: ignore[assignment]
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    torch.manual_seed(0)
    stage = recipe.build(data, BACKGROUNDS, init)
    Trainer(stage, recipe.train, folder, CPU, rows.append).run(minutes)
    return rows


def test_the_chain_of_gpu_recipes(tmp_path: Path) -> None:
    """VAE and pose network side by side, merged; then each stage from the one before; each export is an engine."""
    losses = {name: run(small(f"mini_{name}_gpu", 120), tmp_path / name) for name in ("vae", "pose")}
    for name, rows in losses.items():
        assert rows[-1]["loss"] < 0.9 * rows[0]["loss"], name
    exports = [tmp_path / name / "export" for name in ("vae", "pose")]
    merge(*exports, tmp_path / "start")
    vae, pose, start = (
        vivant.load(folder, device="cpu", dtype="float32").networks.state_dict()
        for folder in (*exports, tmp_path / "start")
    )
    assert all(
        torch.equal(value, (pose if name.startswith("motion_extractor.") else vae)[name])
        for name, value in start.items()
    )
    resting = [value for name, value in start.items() if "temporal_modules" in name and "proj_out" in name]
    assert resting
    assert not any(value.any() for value in resting), "stages 1 and 2 never hear of them"
    init = tmp_path / "start"
    for name in ("stage1", "stage2", "stage3"):
        rows = run(small(f"mini_{name}_gpu", 16), tmp_path / name, init)
        assert all(np.isfinite(row["loss"]) for row in rows)
        init = tmp_path / name / "export"
        assert vivant.load(init, device="cpu", dtype="float32").family == "personalive"
        assert (tmp_path / name / "pictures.png").is_file()
    sessions = write_sessions(tmp_path / "sessions", range(12, 14))
    with pytest.raises(CheckpointError, match="another architecture"):
        train("personalive/mini_pose_gpu", sessions, tmp_path / "mini", init=init, images=1, device="cpu")


def test_a_resumed_run_on_resident_pictures_is_the_same(tmp_path: Path) -> None:
    recipe = small("mini_stage1_gpu", 12)
    run(recipe, tmp_path / "whole")
    for minutes in (0.0, None):
        run(recipe, tmp_path / "pieces", minutes=minutes)
    whole, pieces = (load_file(tmp_path / name / "snapshot.safetensors") for name in ("whole", "pieces"))
    assert [key for key in whole if not torch.equal(whole[key], pieces[key])] == []


def test_the_synthetic_render_is_larger_than_the_picture() -> None:
    """Or sampling twice each way would not be needed: the tests above see the plain way, this one the other."""
    settings = replace(PLAIN, size_px=32)
    assert SIZE >= 1.4 * 32
    backgrounds = np.full((1, 32, 32, 3), 90, np.uint8)
    shots = Shots(SESSIONS, settings, 1)[0]
    made = ResidentFrames.of(SESSIONS, settings, backgrounds, CPU).batch(shots)
    frame = int(shots["frame"][0, 0])
    own = Portraits(SESSIONS, settings, backgrounds).single(
        SESSIONS[frame // 4], frame % 4, np.random.default_rng(0)
    )
    assert np.abs(made["image"][0].numpy().astype(int) - own["image"]).mean() < 4

"""The family's stages: each debug recipe learns what it should and nothing else, and its export is an engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor

import vivant
from vivant.engines.personalive import losses
from vivant.engines.personalive.config import mini
from vivant.engines.personalive.data import Clips, ClipSettings, spoiled_faces
from vivant.engines.personalive.discriminator import Discriminator
from vivant.engines.personalive.heads import STUDIO_POINTS
from vivant.engines.personalive.motion import DRAWN_KEYPOINTS, face_boxes
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.recipes import RECIPES, Recipe
from vivant.engines.personalive.stages import Diffusion, TrainedNetworks
from vivant.engines.personalive.stages_judged import TemporalStage
from vivant.errors import CheckpointError, InputError
from vivant.training.data.sessions import find_talking_clips
from vivant.training.distributed import full_tensor, shard
from vivant.training.launch import find_recipe, train
from vivant.training.trainer import Trainer

from .synthetic import SIZE, make_session, write_clips, write_sessions

CPU = torch.device("cpu")


def data_of(recipe: Recipe, folder: Path) -> Sequence[Any]:
    if recipe.stage is TemporalStage or recipe.train.extra.get("resident"):
        return find_talking_clips(write_clips(folder / "clips", range(12, 14)))
    return [make_session(identity) for identity in range(3)]


def run(recipe: Recipe, folder: Path, minutes: float | None = None) -> tuple[Diffusion, list[dict]]:
    size = int(recipe.train.extra["size_px"])
    stage = recipe.build(data_of(recipe, folder.parent), np.full((2, size, size, 3), 90, np.uint8))
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    Trainer(stage, recipe.train, folder, CPU, rows.append).run(minutes)
    return stage, rows


def changed(before: dict[str, Tensor], stage: Diffusion) -> set[str]:
    """First words of the names of the parameters that moved."""
    after = dict(stage.network.named_parameters())
    moved = {name for name, value in after.items() if not torch.equal(before[name], value)}
    return {".".join(name.split(".")[: 2 if name.startswith("networks") else 1]) for name in moved}


def parameters_at_start(recipe: Recipe, folder: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    size = int(recipe.train.extra["size_px"])
    stage = recipe.build(data_of(recipe, folder), np.full((2, size, size, 3), 90, np.uint8))
    return {name: value.detach().clone() for name, value in stage.network.named_parameters()}


LEARNS = {
    "debug_start": {"networks.motion_encoder", "points", "blendshapes"},
    "debug_pairs": {"networks.reference_unet", "networks.denoiser", "networks.pose_guider"},
    "debug_shown": {
        "networks.reference_unet",
        "networks.denoiser",
        "networks.pose_guider",
        "networks.vae",
    },
    "debug_windows": {"networks.denoiser", "networks.vae"},
    "debug_stage1": {
        "networks.reference_unet",
        "networks.denoiser",
        "networks.motion_encoder",
        "networks.pose_guider",
    },
    "debug_stage2": {
        "networks.reference_unet",
        "networks.denoiser",
        "networks.motion_encoder",
        "networks.pose_guider",
        "discriminator",
    },
    "debug_stage3": {"networks.denoiser", "discriminator"},
}


@pytest.mark.parametrize("name", sorted(LEARNS))
def test_each_stage_trains_its_own_part(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]()
    before = parameters_at_start(recipe, tmp_path)
    torch.manual_seed(0)
    stage, rows = run(recipe, tmp_path / "run")
    assert changed(before, stage) == LEARNS[name]
    moved = [n for n, p in stage.network.named_parameters() if not torch.equal(before[n], p)]
    if name == "debug_stage3":
        assert all("temporal_modules" in n for n in moved if n.startswith("networks"))
    elif name != "debug_windows":
        assert not any("temporal_modules" in n or "reference_unet.up_blocks.3" in n for n in moved)
    if "networks.vae" in LEARNS[name]:
        assert all("mending" in n for n in moved if "networks.vae" in n)
    if name == "debug_start":
        assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert all(np.isfinite(row["loss"]) for row in rows)
    if name in ("debug_stage2", "debug_stage3"):
        assert "judged" not in rows[0]["terms"]
        assert set(rows[-1]["terms"]) == {"pixels", "perceptual", "judge", "judged"}
    if name == "debug_stage1":
        engine = vivant.load(tmp_path / "run" / "export", device="cpu", dtype="float32")
        assert engine.family == "personalive"
        assert (tmp_path / "run" / "pictures.png").is_file()


def test_resumed_run_equals_uninterrupted_run(tmp_path: Path) -> None:
    """Of stage 3, where the window waits between two updates on one clip."""
    recipe = RECIPES["debug_stage3"]()
    for folder, minutes in (("whole", None), ("pieces", 0.0)):
        torch.manual_seed(0)
        for _ in range(1 if minutes is None else 2):
            run(recipe, tmp_path / folder, minutes)
            torch.rand(7)  # what happens between two runs must not matter
    whole, pieces = (load_file(tmp_path / folder / "snapshot.safetensors") for folder in ("whole", "pieces"))
    assert float(whole["network/window"].abs().max()) > 0
    assert [key for key in whole if not torch.equal(whole[key], pieces[key])] == []


def test_sharded_weights_give_the_same_gradients(tmp_path: Path) -> None:
    """FSDP2 with one process: what is outside `forward` would meet weights that are not gathered."""
    recipe = RECIPES["debug_stage2"]()
    data = data_of(recipe, tmp_path)
    store = dist.FileStore(str(tmp_path / "store"), 1)
    gradients = []
    for sharded in (False, True):
        torch.manual_seed(0)
        stage = recipe.build(data, np.full((2, 64, 64, 3), 90, np.uint8))
        if sharded:
            dist.init_process_group("gloo", store=store, rank=0, world_size=1)
            shard(stage.network)
        torch.manual_seed(1)
        terms = stage.losses(stage.dataset(recipe.train, 0, 1)[0], 1.0)
        torch.stack(list(terms.values())).sum().backward()
        parameters = dict(stage.network.named_parameters())
        gradients.append({n: full_tensor(p.grad) for n, p in parameters.items() if p.grad is not None})
    dist.destroy_process_group()
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_recomputing_gives_the_same_gradients(tmp_path: Path) -> None:
    gradients = []
    for recompute in (False, True):
        recipe = RECIPES["debug_stage1"]()
        extra = {**recipe.train.extra, "recompute": recompute}
        recipe = replace(recipe, train=replace(recipe.train, extra=extra))
        torch.manual_seed(0)
        stage = recipe.build(data_of(recipe, tmp_path), np.full((2, 64, 64, 3), 90, np.uint8))
        torch.manual_seed(1)
        stage.losses(stage.dataset(recipe.train, 0, 1)[0], 0.0)["latent"].backward()
        assert isinstance(stage.network, TrainedNetworks)
        gradients.append(stage.networks.denoiser.conv_in.weight.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_the_window_of_stage_3_is_that_of_algorithm_2() -> None:
    recipe = RECIPES["published_stage3"]()
    slides = recipe.train.extra["num_frames"] // recipe.config.chunk_frames - recipe.config.num_chunks
    assert slides == 6, "s = 0 ... S / M - N"
    assert [s for s in range(slides + 1) if s % (recipe.config.num_chunks - 1) == 0] == [0, 3, 6]


def test_clips_repeat_for_every_update_on_them(tmp_path: Path) -> None:
    paths = find_talking_clips(write_clips(tmp_path, range(12, 15)))
    settings = ClipSettings(size_px=64, batch_size=2, seed=0, num_frames=4, stride=4, updates_per_clip=2)
    clips = Clips(paths, settings)
    assert [len(clips[index]["phase"]) for index in range(4)] == [0, 1, 0, 1]
    assert torch.equal(clips[0]["driving"], clips[1]["driving"])
    assert not torch.equal(clips[0]["driving"], clips[2]["driving"])
    assert clips[0]["driving"].shape == (2, 4, 64, 64, 3)
    gaps = clips[0]["points"][:, :, 0, 0].diff(dim=1) * SIZE / 2
    torch.testing.assert_close(gaps, torch.full_like(gaps, 4.0), atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="14 frames, 40 are needed"):
        Clips(paths, replace(settings, num_frames=40))
    with pytest.raises(InputError, match="vivant studio talk"):
        find_talking_clips(tmp_path / "nothing")


def test_the_mask_weighs_face_eyes_and_mouth() -> None:
    """One in the face, two in eyes and mouth."""
    points = torch.zeros(1, 68, 2)
    points[0, :, 0] = torch.linspace(-0.5, 0.5, 68)
    points[0, :, 1] = torch.linspace(-0.5, 0.5, 68)
    points[0, 36:42], points[0, 42:48], points[0, 48:] = -0.25, -0.1, 0.3
    mask = losses.region_mask(points, 40, 40)[0, 0]
    assert set(mask.unique().tolist()) == {0.0, 1.0, 2.0}
    assert float(mask[25, 25]) == 2.0
    assert float(mask[20, 20]) == 1.0
    assert float(mask[0, 0]) == 0.0
    ones = torch.ones(1, 3, 40, 40)
    assert float(losses.masked_mse(ones, 0 * ones, mask[None, None])) == pytest.approx(1 + float(mask.mean()))


def test_spoiled_faces_are_alike_within_a_clip_only() -> None:
    faces = torch.rand(2, 1, 3, 32, 32).expand(2, 3, 3, 32, 32)
    spoiled = spoiled_faces(faces, torch.Generator().manual_seed(0))
    assert spoiled.shape == faces.shape
    assert 0 <= float(spoiled.min()) <= float(spoiled.max()) <= 1
    within = (spoiled[:, 0] - spoiled[:, 1]).abs().mean()
    assert float(within) < 0.05, "grain only"
    assert float((spoiled - faces).abs().mean()) > 2 * float(within)


def test_the_judge_knows_the_time_once_it_has_learned_to() -> None:
    torch.manual_seed(0)
    judge = Discriminator(64, channel_base=512)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    early, late = judge(pictures, torch.tensor([0, 0])), judge(pictures, torch.tensor([999, 999]))
    assert torch.equal(early, late), "time layers begin at zero"
    with torch.no_grad():
        for block in judge.blocks:
            torch.nn.init.normal_(block.time.weight, std=0.1)
    assert not torch.equal(judge(pictures, torch.tensor([0, 0])), judge(pictures, torch.tensor([999, 999])))


def test_recipes_find_their_own_data_and_know_their_own_architecture(tmp_path: Path) -> None:
    sessions = write_sessions(tmp_path / "sessions", range(12, 14))
    assert train("personalive/debug_stage1", sessions, tmp_path / "run", images=2, device="cpu")
    assert train("personalive/debug_stage1", sessions, tmp_path / "other", images=2, seed=1, device="cpu")
    stats = [(tmp_path / run / "stats.jsonl").read_text().splitlines()[-1] for run in ("run", "other")]
    assert json.loads(stats[0])["loss"] != json.loads(stats[1])["loss"], "another seed draws something else"
    for recipe in ("debug_stage3", "debug_start"):
        with pytest.raises(InputError, match="no training clips"):
            train(f"personalive/{recipe}", sessions, tmp_path / "none", device="cpu")
    start = find_recipe("personalive/mini_start")
    with pytest.raises(CheckpointError, match="another architecture"):
        start.build([], np.zeros((1, 128, 128, 3), np.uint8), tmp_path / "run" / "export")


def test_the_face_crop_reaches_from_brows_to_chin() -> None:
    """With the landmarks that the drawn keypoints learn, on a face whose eyes and chin are 1 apart."""
    places = {
        4: (-0.6, 0.65),
        12: (0.6, 0.65),
        36: (-0.45, 0.0),
        45: (0.45, 0.0),
        30: (0.0, 0.4),
        33: (0.0, 0.5),
    }
    places[8] = (0.0, 1.0)
    keypoints = torch.zeros(1, 21, 3)
    for keypoint in DRAWN_KEYPOINTS:
        keypoints[0, keypoint, :2] = torch.tensor(places[STUDIO_POINTS[keypoint]]) * 0.5
    left, top, right, bottom = face_boxes(keypoints, 400, 400)[0].tolist()
    assert top < 200 - 0.2 * 100, "brows"
    assert bottom > 200 + 1.0 * 100, "chin"
    assert left < 200 - 0.6 * 100 < 200 + 0.6 * 100 < right, "cheeks"


def test_mini_is_small() -> None:
    with torch.device("meta"):
        numbers = sum(tensor.numel() for tensor in Networks(mini()).state_dict().values())
    assert numbers * 2 < 15_000_000, "in half precision"

"""Clips that stay on the device: those of the data workers; heads are what landmarks say; a VAE is solved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

import vivant
from vivant.engines.personalive.config import tiny_differences
from vivant.engines.personalive.data import ClipCuts, Clips, ClipSettings, share, shared_draws, told
from vivant.engines.personalive.heads import MEAN_HEAD, RIGID, STUDIO_POINTS, heads_of
from vivant.engines.personalive.motion import bent_portraits
from vivant.engines.personalive.networks.block_vae import BlockVae
from vivant.engines.personalive.recipes import RECIPES, Recipe
from vivant.engines.personalive.resident import ResidentClips
from vivant.engines.personalive.solving import solve_vae
from vivant.errors import CheckpointError
from vivant.ops.rotation import rotation_from_degrees
from vivant.training.data.mirror import MIRRORED
from vivant.training.data.sessions import find_talking_clips
from vivant.training.launch import train
from vivant.training.trainer import Trainer

from .synthetic import write_clips

CPU = torch.device("cpu")
BACKGROUNDS = np.full((1, 64, 64, 3), 90, np.uint8)
SETTINGS = ClipSettings(size_px=64, batch_size=6, seed=0, num_frames=4, stride=3, updates_per_clip=2)


def test_clips_are_those_of_the_data_workers_or_of_a_mirror(tmp_path: Path) -> None:
    paths = find_talking_clips(write_clips(tmp_path, range(12, 15)))
    clips, cuts = Clips(paths, SETTINGS), ClipCuts(paths, SETTINGS)
    resident = ResidentClips.of(paths, 64, CPU)
    seen = set()
    for index in (0, 1, 5):
        wanted, cut = clips[index], cuts[index]
        got = resident.batch(cut)
        assert wanted.keys() == got.keys()
        assert len(got["phase"]) == index % 2
        for row, mirrored in enumerate(cut["mirrored"].tolist()):
            seen.add(mirrored)
            for name in ("reference", "driving"):
                own = wanted[name][row].flip(-2) if mirrored else wanted[name][row]
                assert torch.equal(got[name][row], own)
            points = wanted["points"][row]
            if mirrored:
                points = points[:, MIRRORED] * torch.tensor([-1.0, 1.0])
            torch.testing.assert_close(got["points"][row], points)
    assert seen == {False, True}


def test_pictures_of_an_item_are_graded_alike(tmp_path: Path) -> None:
    paths = find_talking_clips(write_clips(tmp_path, range(12, 15)))
    resident = ResidentClips.of(paths, 64, CPU)
    cut = ClipCuts(paths, replace(SETTINGS, graded=True))[3]
    cut["rows"][:, 1] = cut["reference"]
    plain = resident.batch(ClipCuts(paths, SETTINGS)[3] | {"rows": cut["rows"]})
    got = resident.batch(cut)
    assert torch.equal(got["driving"][:, 1], got["reference"]), "without grain of their own"
    assert got["driving"].shape == plain["driving"].shape
    changes = (got["reference"].float() - plain["reference"].float()).mean((1, 2))
    assert float(changes.abs().amax(1).min()) > 1
    assert float(changes.std(0).min()) > 1, "each item by its own grade"


def test_heads_are_those_that_the_points_are_of() -> None:
    """Two people of their own shape who turn: where, how large and how turned they are, and what they look like."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.tensor(MEAN_HEAD)
    shapes = mean + 0.02 * torch.randn(2, 21, 3, generator=generator)
    shapes[:, list(RIGID)] += (mean - shapes)[:, list(RIGID)].mean(1, keepdim=True)
    clips = torch.arange(2).repeat_interleave(40)
    degrees = (torch.rand(80, 3, generator=generator) - 0.5) * torch.tensor([20.0, 50.0, 20.0])
    rotation = rotation_from_degrees(*degrees.unbind(1))
    shift = torch.randn(80, 1, 3, generator=generator) * 0.1
    keypoints = 0.8 * shapes[clips] @ rotation + shift
    points = torch.zeros(80, 68, 2)
    points[:, list(STUDIO_POINTS)] = keypoints[..., :2]
    heads = heads_of(points)
    assert float((heads.degrees - degrees).abs().mean()) < 1.5
    assert float((heads.scale - 0.8).abs().mean()) < 0.02
    assert float((heads.keypoints - keypoints)[..., :2].abs().mean()) < 0.002
    # One frame says nothing of depth.
    assert float((heads.canonical - shapes[clips])[..., :2].abs().mean()) < 0.01
    # A mirror turns them the other way.
    other = heads_of(points[:, MIRRORED] * torch.tensor([-1.0, 1.0]))
    signs = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(other.degrees, heads.degrees * signs, atol=0.1, rtol=0)


def test_the_middle_of_a_face_goes_where_its_keypoints_go() -> None:
    noise = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(noise, size=(64, 64), mode="bicubic")
    own = 0.8 * torch.tensor(MEAN_HEAD)[None]
    moved = own + torch.tensor([4 / 32, 0.0, 0.0])
    frames = bent_portraits(picture, own, torch.stack([own, moved], 1))
    assert frames.shape == (1, 2, 3, 64, 64)
    torch.testing.assert_close(frames[:, 0], picture, atol=1e-3, rtol=0)
    face = slice(28, 38), slice(28, 38)
    torch.testing.assert_close(frames[0, 1][:, *face], picture.roll(4, 3)[0][:, *face], atol=1e-3, rtol=0)
    corners = (frames[0, 1] - picture[0])[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners.abs().max()) < 1e-3, "far away it stays"


def test_a_vae_is_solved(tmp_path: Path) -> None:
    """What it was solved from comes back, better than by any other six components; differences have a size of 1."""
    paths = find_talking_clips(write_clips(tmp_path, range(12, 18)))
    config = tiny_differences()
    vae = BlockVae(config.vae).requires_grad_(False)  # type: ignore[arg-type]
    resident = ResidentClips.of(paths, 64, CPU)
    pictures = resident.frames[::3].movedim(-1, 1).float() / 127.5 - 1
    torch.testing.assert_close(
        vae.encode(vae.linear(vae.encode(pictures))), vae.encode(pictures), atol=1e-4, rtol=0
    )
    before = float((vae.decode(vae.encode(pictures)) - pictures).square().mean())
    solve_vae(vae, paths, config.image_size)
    assert int(vae.solved) > 0
    latents = vae.encode(pictures)
    after = float((vae.decode(latents) - pictures).square().mean())
    assert after < 0.2 * before
    torch.testing.assert_close(vae.components @ vae.components.T, torch.eye(6), atol=1e-5, rtol=0)
    assert 0.5 < float(vae.told(latents).std()) < 2


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
    settings = replace(recipe.train, num_images=num_images, batch_size=4, warmup_images=1, log_steps=1)
    return replace(recipe, train=replace(settings, extra=extra), config=tiny_differences())


def run(recipe: Recipe, folder: Path, init: Path | None = None, minutes: float | None = None) -> list[dict]:
    data = find_talking_clips(write_clips(folder.parent / "clips", range(12, 15)))
    folder.mkdir(exist_ok=True)
    rows: list[dict] = []
    torch.manual_seed(0)
    stage = recipe.build(data, BACKGROUNDS, init)
    Trainer(stage, recipe.train, folder, CPU, rows.append).run(minutes)
    return rows


def test_the_chain_of_gpu_recipes(tmp_path: Path) -> None:
    """Each stage from the one before; each export is an engine; what the start learned rests."""
    rows = run(small("mini_start_gpu", 120), tmp_path / "start")
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    start = load_file(tmp_path / "start" / "export" / "model.safetensors")
    assert int(start["vae.solved"]) > 0
    assert not any(v.any() for n, v in start.items() if "temporal_modules" in n and "proj_out" in n)
    init = tmp_path / "start" / "export"
    for name in ("stage1", "stage2", "stage3"):
        rows = run(small(f"mini_{name}_gpu", 16), tmp_path / name, init)
        assert all(np.isfinite(row["loss"]) for row in rows)
        init = tmp_path / name / "export"
        assert vivant.load(init, device="cpu", dtype="float32").family == "personalive"
        assert (tmp_path / name / "pictures.png").is_file()
    end = load_file(init / "model.safetensors")
    resting = ("motion_encoder.", "vae.components", "vae.spread")
    assert all(torch.equal(end[name], value) for name, value in start.items() if name.startswith(resting))
    clips = write_clips(tmp_path / "clips", range(12, 14))
    with pytest.raises(CheckpointError, match="another architecture"):
        train("personalive/mini_stage1_gpu", clips, tmp_path / "mini", init=init, images=1, device="cpu")


@pytest.mark.parametrize("name", ["mini_start_gpu", "mini_stage3_gpu"])
def test_a_resumed_run_on_resident_clips_is_the_same(name: str, tmp_path: Path) -> None:
    recipe = small(name, 12)
    run(recipe, tmp_path / "whole")
    for minutes in (0.0, None):
        run(recipe, tmp_path / "pieces", minutes=minutes)
    whole, pieces = (load_file(tmp_path / folder / "snapshot.safetensors") for folder in ("whole", "pieces"))
    assert [key for key in whole if not torch.equal(whole[key], pieces[key])] == []

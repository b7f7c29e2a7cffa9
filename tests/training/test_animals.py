"""Fine-tuning on animals: the terms of appendix D, on clips that nobody labelled among rendered people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import vivant
from vivant import checkpoint
from vivant.engines.liveportrait.config import tiny_animals, tiny_published
from vivant.engines.liveportrait.networks import PublishedNetworks
from vivant.engines.liveportrait.recipes import NOT_OF_ANIMALS, RECIPES, AnimalRecipe
from vivant.errors import InputError
from vivant.training.data.clips import Alternating, ClipPairs, find_clips

from .test_training import run


def write_clips(folder: Path) -> Path:
    """A folder of data with two animals: one of three pictures, one of a single picture."""
    rng = np.random.default_rng(0)
    for name, count in (("cat", 3), ("dog", 1)):
        part = folder / "animals" / name
        part.mkdir(parents=True)
        for index in range(count):
            coarse = rng.integers(0, 255, (6, 6, 3)).astype(np.uint8)
            cv2.imwrite(str(part / f"{index:03}.png"), cv2.resize(coarse, (80, 80)))
    return folder


def test_the_recipe_tunes_a_human_checkpoint_on_animals(tmp_path: Path) -> None:
    made = RECIPES["debug_animals"]()
    assert isinstance(made, AnimalRecipe)
    clips = find_clips(write_clips(tmp_path) / "animals")
    torch.manual_seed(0)
    human = PublishedNetworks(tiny_published())
    checkpoint.save(tmp_path / "human", "liveportrait", tiny_published(), human)
    stage = made.build(clips, np.zeros((1, 256, 256, 3), np.uint8), tmp_path / "human")
    own = stage.networks.state_dict()
    assert all(torch.equal(own[name], value) for name, value in human.state_dict().items() if name in own)
    assert not any(name.startswith("stitching") for name in own)

    rows = run(replace(made, train=replace(made.train, num_images=16)), tmp_path / "run", more=clips)
    unlabelled = [row for row in rows if "flow" not in row["terms"]]
    assert len(unlabelled) == len(rows) // 2, "every other step is on animals, which have no labels"
    assert unlabelled[-1]["loss"] < unlabelled[0]["loss"]
    terms = {name for row in rows for name in row["terms"]}
    assert not terms & NOT_OF_ANIMALS.keys()
    assert {"equivariance", "gan", "gan_face", "image", "landmark_guidance"} <= terms
    engine = vivant.load(tmp_path / "run" / "export", device="cpu", dtype="float32")
    assert engine.config == tiny_animals()


def test_pairs_are_of_one_animal_and_a_function_of_their_number(tmp_path: Path) -> None:
    clips = find_clips(write_clips(tmp_path) / "animals")
    assert [len(clip) for clip in clips] == [3, 1]
    pairs = ClipPairs(clips[1:], 64, batch_size=2, seed=3)
    batch = pairs[5]
    assert batch["source"].shape == (2, 64, 64, 3)
    assert torch.equal(batch["source"], batch["driving"]), (
        "one picture is a clip of one frame, mirrored alike"
    )
    assert torch.equal(batch["source"], pairs[5]["source"])
    several = ClipPairs(clips, 64, batch_size=8, seed=3)
    assert not torch.equal(several[0]["source"], several[1]["source"])
    with pytest.raises(InputError, match="no clips"):
        find_clips(tmp_path / "nothing")


def test_batches_alternate_by_share() -> None:
    mixed = Alternating(["people"] * 12, ["animals"] * 12, 0.25)  # type: ignore[arg-type]
    assert [mixed[index] for index in range(8)].count("animals") == 2
    assert Alternating(["people"], ["animals"], 1.0)[0] == "animals"  # type: ignore[arg-type,comparison-overlap]

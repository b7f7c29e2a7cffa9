"""From names on a command line to a running trainer: recipe, data, starting weights, folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from vivant.errors import InputError
from vivant.media.staging import make_folder
from vivant.training.trainer import Trainer

NUM_BACKGROUNDS = 300


def find_recipe(name: str) -> Any:
    """The recipe `family/recipe`, or one that belongs to no family. Raises InputError that lists what there is."""
    from vivant.engines import ENGINES

    homes = {family: f"vivant.engines.{family}.recipes" for family in ENGINES} | {
        "face": "vivant.training.identity"
    }
    family, _, recipe = name.partition("/")
    if family not in homes:
        raise InputError(f"{name!r} is no recipe; write family/recipe with family one of {', '.join(homes)}.")
    recipes = import_module(homes[family]).RECIPES
    if recipe not in recipes:
        raise InputError(f"{family} has no recipe {recipe!r}; there are {', '.join(sorted(recipes))}.")
    return recipes[recipe]()


def train(
    name: str,
    data: Path | None,
    folder: Path,
    *,
    init: Path | None = None,
    minutes: float | None = None,
    images: int | None = None,
    fit_minutes: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    report: Callable[[dict[str, Any]], None] | None = None,
) -> bool:
    """Run a recipe on the sessions in `data`, in `folder`; resumes what is there. True when complete.

    Args:
        data: None for recipes that see no pictures.
        init: a checkpoint folder to start from (the export of an earlier recipe); ignored when resuming.
        minutes: stop (with a snapshot) after this time.
        images: length of the run in images seen, schedule included; None: the recipe's. Must stay the same when
            resuming.
        fit_minutes: length of the run in time, schedule included; it ends there or with its images.
        seed: of what is drawn and in which order, 0 or more; None: the recipe's. Another one where a run goes on from
            an export of the same recipe, which would else see the same again. Must stay the same when resuming.
        report: called with every line of statistics.
    """
    from vivant.runtime.precision import choose_device
    from vivant.training.data.portraits import random_backgrounds

    recipe = find_recipe(name)
    if folder.exists() and not folder.is_dir():  # said before data are read, which may take minutes
        raise InputError(f"{folder} is a file; give a folder as --out.")
    said = {"num_images": images, "seed": seed}
    told = {name: value for name, value in said.items() if value is not None}
    recipe = replace(recipe, train=replace(recipe.train, **told))
    if "size_px" not in recipe.train.extra:  # a recipe without pictures
        stage = recipe.build(init)
    elif data is None:
        raise InputError(f"{name} learns from rendered people; give their folder as --data.")
    else:
        found = recipe.find_data(data)
        pictures = random_backgrounds(NUM_BACKGROUNDS, int(recipe.train.extra["size_px"]), recipe.train.seed)
        stage = recipe.build(found, pictures, init)
    make_folder(folder)
    target: torch.device = choose_device(device)
    return Trainer(stage, recipe.train, folder, target, report).run(minutes, fit_minutes)

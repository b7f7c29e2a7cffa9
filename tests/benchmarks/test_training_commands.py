"""Commands that wait for a GPU, and those of the docs, name recipes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vivant.training.launch import find_recipe

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "docs" / "training.md", *sorted((ROOT / "benchmarks" / "gpu").glob("train_*.sh"))]


def commands(text: str) -> set[tuple[str, str]]:
    """(family, recipe) of each `vivant train`, with shell loops over `stage` written out."""
    found = set()
    stages = re.search(r"for stage in ([\w ]+);", text)
    for family, name in re.findall(r'vivant train "?(\w+)/([\w$]+)', text):
        names = [name.replace("$stage", stage) for stage in stages[1].split()] if stages else [name]
        found |= {(family, one) for one in names}
    return found


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_recipes_exist(path: Path) -> None:
    named = commands(path.read_text())
    assert named, path
    for family, recipe in sorted(named):
        find_recipe(f"{family}/{recipe}")

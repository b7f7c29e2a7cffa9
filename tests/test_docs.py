"""The documentation points at things that exist, and the changelog knows the version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import vivant

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".venv", ".git", "node_modules", "build", "dist", "runs"}
DOCUMENTS = [
    path for path in sorted(ROOT.rglob("*.md")) if not SKIPPED & set(path.relative_to(ROOT).parts[:-1])
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    targets = [link.split("#")[0] for link in LINK.findall(text) if "://" not in link]
    dead = [target for target in targets if target and not (path.parent / target).exists()]
    assert not dead, f"dead links in {path.name}: {dead}"


def test_changelog_and_version_agree() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = HEADING.findall(text)
    assert "## [Unreleased]" in text
    assert released[0] == vivant.__version__


def test_decisions_are_numbered_and_complete() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [int(path.name[:4]) for path in decisions]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in decisions:
        text = path.read_text("utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert all(f"**{part}.**" in text for part in ("Context", "Choice", "Price")), path.name


def test_every_family_has_its_rooms() -> None:
    """Rooms that are promised in docs/architecture.md for families that can be loaded."""
    for family in sorted((ROOT / "src" / "vivant" / "engines").iterdir()):
        if family.is_dir() and (family / "engine.py").is_file():
            for room in ("README.md", "config.py", "motion.py"):
                assert (family / room).is_file(), f"{family.name} has no {room}"

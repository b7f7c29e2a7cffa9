"""Options of the command line are the fields of the dataclasses: same names, same defaults, same texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import pytest
import typer

from vivant.cli.options import families_options, make_options, takes_fields
from vivant.errors import InputError
from vivant.settings import Recording

from .lines import Run


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A made-up family's options."""

    loud: bool = True
    """Whether it can
    be heard."""
    shy: bool = False
    """Whether it hides."""
    kind: Literal["drum", "bell"] = "bell"
    """What it sounds like."""
    pitch: float | None = None
    """In Hz."""
    gain: float = 1.0
    """How loud."""
    beats: int = 0
    """How many."""

    def __post_init__(self) -> None:
        if self.pitch is not None and self.pitch <= 0:
            raise ValueError(f"pitch is positive, got {self.pitch}")


def played(*arguments: str) -> tuple[dict[str, Any], int]:
    seen: list[tuple[dict[str, Any], int]] = []

    @takes_fields("sound", [Sound])
    def play(sound: Mapping[str, Any], times: int = 1) -> None:
        seen.append((dict(sound), times))

    app = typer.Typer(rich_markup_mode=None)
    app.command()(play)
    typer.main.get_command(app)(list(arguments), standalone_mode=False)
    return seen[0]


def test_only_what_was_given_is_passed_on() -> None:
    assert played() == ({}, 1)
    given = {"loud": False, "shy": True, "kind": "drum", "pitch": 3.5}
    assert played("--no-loud", "--shy", "--kind", "drum", "--pitch", "3.5", "--times", "2") == (given, 2)
    assert make_options(Sound, {}) == Sound()


def test_texts_come_from_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(IndexError):
        played("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Whether it can be heard. [default: loud]" in text
    assert "What it sounds like. [default: bell]" in text
    assert "How loud. [default: 1.0]" in text
    assert "How many. [default: 0]" in text
    assert "--shy Whether it hides. " in text


def test_what_a_family_cannot_do_is_an_error() -> None:
    with pytest.raises(InputError, match="this preset has no --head-nod; leave it out"):
        make_options(Sound, {"head_nod": 1.0})
    with pytest.raises(InputError, match=r"pitch is positive, got -1\.0\."):
        make_options(Sound, {"pitch": -1.0})


def test_every_field_has_its_option(run: Run) -> None:
    text = run("animate", "--help").out
    words = set(text.replace(",", " ").split())
    spelled = {"relative": "--relative"}
    for record_type in (Recording, *families_options()):
        for field in fields(record_type):
            assert spelled.get(field.name, "--" + field.name.replace("_", "-")) in words

"""The program starts fast, says who it is, and turns what a user can mend into one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vivant
from vivant import cli
from vivant.cli.app import build_app
from vivant.cli.vocabulary import translated

from .lines import Run

COMMANDS = ("animate", "presets", "licenses", "doctor", "convert", "studio", "train", "evaluate", "bench")


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vivant", *arguments], capture_output=True, text=True, check=False
    )


def test_version() -> None:
    assert program("--version").stdout.strip() == f"vivant {vivant.__version__}"


def test_help_imports_nothing_heavy() -> None:
    """Half a second is the limit for --help; what costs time is imports, so those are checked."""
    heavy = ("torch", "numpy", "cv2", "av", "scipy", "PIL", "numba", "rich.progress")
    lines = "import sys\nfrom vivant.cli import main\nmain(['--help'])\nmain(['animate', '--help'])\n"
    lines += f"print([name for name in {heavy!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_the_commands(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code == 0
    assert "portrait comes alive" in done.out
    assert all(command in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert f"vivant {command}" in done.out


def test_unknown_words(run: Run) -> None:
    done = run("animat")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("vivant: No such command 'animat'")
    done = run("animate")
    assert (done.code, done.err) == (2, "vivant: Missing option '-s' / '--source'.\n")


def test_a_closed_pipe_is_no_drama() -> None:
    """`vivant licenses | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "vivant", "licenses"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        text=True,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


def test_the_entry_point_is_the_program() -> None:
    from importlib.metadata import entry_points

    [entry] = entry_points(group="console_scripts", name="vivant")
    assert entry.load() is cli.program, "which hears a polite kill and writes any file name"


def test_words_of_others_are_translated_only_where_they_mean_something() -> None:
    known = {"--source", "--output", "--relative", "--absolute", "--on-missing"}
    assert translated(["--source_image", "a=b", "--on_missing=fail"], known) == [
        "--source",
        "a=b",
        "--on-missing=fail",
    ]
    assert translated(["--no_flag_relative_motion"], known) == ["--absolute"]
    assert translated(["--output_dir", "x", "--output-dir=y/"], known) == ["--output", "x/", "--output=y/"]
    assert translated(["-r", "me.png"], known) == ["--source", "me.png"]
    assert translated(["--driving_video", "x"], known) == ["--driving_video", "x"]
    assert translated(["my_file.png"], known) == ["my_file.png"]


def test_hidden_words_are_hidden(run: Run) -> None:
    done = run("animate", "--help")
    assert "flag" not in done.out
    assert "image" not in done.out.replace("images", "")


def test_building_twice_is_the_same() -> None:
    assert [command.name for command in build_app().registered_commands] == [
        command.name for command in build_app().registered_commands
    ]
    assert Path(vivant.__file__).name == "__init__.py"

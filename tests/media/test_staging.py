"""Temporaries vanish whatever happens to whoever made them: also when a signal strikes before the `try`."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vivant.errors import InputError
from vivant.media.staging import StagedFile, StagedFolder, make_folder, output_errors


@pytest.mark.parametrize("make", [lambda path: StagedFile(path), lambda path: StagedFolder(path, ".png")])
def test_a_forgotten_temporary_is_removed(tmp_path: Path, make: object) -> None:
    assert callable(make)
    staged = make(tmp_path / "out")
    assert len(os.listdir(tmp_path)) == 1
    del staged
    gc.collect()
    assert os.listdir(tmp_path) == []


def test_also_at_the_end_of_the_program(tmp_path: Path) -> None:
    program = "import sys\nfrom vivant.media.staging import StagedFile\nkept = StagedFile(sys.argv[1])\nsys.exit(143)"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "out.mp4")], check=False)
    assert done.returncode == 143
    assert os.listdir(tmp_path) == []


def test_what_is_committed_stays(tmp_path: Path) -> None:
    staged = StagedFile(tmp_path / "out.txt")
    staged.temporary.write_text("done")
    staged.commit()
    staged.discard()
    del staged
    gc.collect()
    assert (tmp_path / "out.txt").read_text() == "done"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_folder_is_made_or_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file cannot be written: a file of that name exists already"):
        make_folder(tmp_path / "file")
    with pytest.raises(InputError, match="b cannot be written: its folder does not exist"):
        make_folder(tmp_path / "file" / "b")
    assert (tmp_path / "file").read_text() == "mine"


def test_what_safetensors_says_of_the_disk_is_understood(tmp_path: Path) -> None:
    array = np.zeros(3)
    with (
        pytest.raises(InputError, match="here cannot be written: its folder does not exist"),
        output_errors(Path("here")),
    ):
        save_file({"a": array}, tmp_path / "missing" / "a.safetensors")
    with pytest.raises(InputError, match="the disk is full"), output_errors(Path("here")):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

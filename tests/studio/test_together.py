"""Work on many people ends when it fails."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import sleep

import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio.sheet import contact_sheet, write_picture
from vivant.studio.together import each


def note(identity: int, folder: Path, bad: int | None) -> None:
    if identity == bad:
        raise InputError("this one cannot be rendered")
    sleep(0.2)
    (folder / str(identity)).touch()


@pytest.mark.parametrize("workers", [1, 2])
def test_all_are_done_and_told(tmp_path: Path, workers: int) -> None:
    told: list[tuple[int, int]] = []
    each(partial(note, folder=tmp_path, bad=None), range(4), workers, lambda *now: told.append(now))
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1", "2", "3"}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_ends_it(tmp_path: Path, workers: int) -> None:
    with pytest.raises(InputError, match="cannot be rendered"):
        each(partial(note, folder=tmp_path, bad=1), range(40), workers, None)
    assert len(list(tmp_path.iterdir())) < 20, "the others were not waited for"


def test_a_sheets_name_is_looked_at_before_anyone_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        contact_sheet(tmp_path / "people.gif", range(10**6))
    with pytest.raises(InputError, match=r"\.png or \.jpg"):
        write_picture(tmp_path / "people", np.zeros((4, 4, 3), np.uint8))

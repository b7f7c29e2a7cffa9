"""Outputs never take the place of inputs or of what appears meanwhile; no ordinary name gives a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.media.parts import Move, Parts
from vivant.settings import Recording

from .lines import Run, left_in, shifted
from .test_hostile import refused
from .test_resume import killed


@pytest.fixture
def frames(here: Path, face: np.ndarray) -> Path:
    """Three pictures in the folder `frames`, and a.png to animate."""
    (here / "frames").mkdir()
    for index, image in enumerate(shifted(face, 3)):
        Image.fromarray(np.ascontiguousarray(image)).save(here / "frames" / f"{index:05}.png")
    Image.fromarray(face).save(here / "a.png")
    return here / "frames"


def test_begun_again_after_a_kill_while_moving(run: Run, here: Path, media: Path, tiny: Path) -> None:
    """The first of two outputs is moved already: what is made anew is moved, all of it."""
    line = ("animate", "-s", media / "face.png", "-d", media / "one.mp4", "--preset", tiny, "-o", "o.mp4")
    killed(here, "move", 2, *line)
    assert "o.json" in left_in(here)
    assert "o.mp4" not in left_in(here)
    done = run(*line, "--overwrite", "--seed", 3)
    assert done.code == 0, done.err
    assert left_in(here) == ["o.json", "o.mp4"]
    assert json.loads((here / "o.json").read_text())["seed"] == 3


def test_a_run_begun_again_forgets_what_was_to_be_moved(tmp_path: Path) -> None:
    target = tmp_path / "o.mp4"
    parts = Parts.open(target)
    parts.begin({"seed": 0}, resume=False, overwrite=False)
    (parts.folder / "output.mp4").write_text("old")
    parts.put("finished.json", lambda path: path.write_text(json.dumps([["output.mp4", str(target)]])))
    parts.close(keep=True)  # as a kill leaves it
    parts = Parts.open(target)
    parts.begin({"seed": 1}, resume=False, overwrite=True)
    assert parts.moves is None
    assert not (parts.folder / "output.mp4").exists()
    parts.close(keep=False)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "words",
    [
        ("-s", "a.png", "-d", "frames", "-o", "frames/%05d.png"),
        ("-s", "a.png", "-d", "frames/*.png", "-o", "frames/out_%d.png"),
        ("-s", "frames/00000.png", "-d", "one.mp4", "-o", "frames/%05d.png"),
        ("-s", "a.png", "-d", "one.mp4", "--reference-frame", "frames/00001.png", "-o", "frames/%05d.png"),
        ("-s", "a.png", "--map", "0=frames", "-o", "frames/%05d.png"),
        ("-s", "a.png", "-d", "link", "-o", "frames/%05d.png"),
        ("-s", "a.png", "-d", "frames/0000%d.png", "-o", "frames/00000.png"),
    ],
)
def test_the_folder_of_an_input_is_never_the_output(
    run: Run, here: Path, media: Path, tiny: Path, frames: Path, words: tuple[str, ...]
) -> None:
    shutil.copy(media / "one.mp4", here)
    (here / "link").symlink_to("frames")
    before = {path: path.read_bytes() for path in frames.iterdir()}
    done = run("animate", *words, "--preset", tiny, "--overwrite")
    refused(done, "frames", "choose another output")
    assert {path: path.read_bytes() for path in frames.iterdir()} == before
    assert ".frames.vivant-parts" not in "".join(left_in(here))


def test_nor_is_it_of_an_edit(run: Run, here: Path, tiny: Path, frames: Path) -> None:
    (here / "k.csv").write_text("time,yaw\n0,0\n0.2,8\n")
    before = {path: path.read_bytes() for path in frames.iterdir()}
    line = ("edit", "--keyframes", "k.csv", "--preset", tiny, "--overwrite", "-o", "frames/%05d.png")
    for source in ("frames/00000.png", "frames"):
        refused(run(*line, "-s", source), "frames", "choose another output")
    assert {path: path.read_bytes() for path in frames.iterdir()} == before


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    parts = Parts.open(tmp_path / "made")
    parts.begin({}, resume=False, overwrite=False)
    (parts.folder / "pictures").mkdir()
    (parts.folder / "pictures" / "0.png").touch()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.png").write_text("mine")
    for overwrite, says in ((False, "exists already; use --overwrite"), (True, "holds other files")):
        if overwrite:
            (tmp_path / "made" / "notes.txt").write_text("mine")
        with pytest.raises(Exception, match=says):
            parts.finish([Move("pictures", tmp_path / "made")], overwrite=overwrite)
    parts.close(keep=False)
    assert left_in(tmp_path) == ["made/mine.png", "made/notes.txt"]


# Names


def test_a_per_cent_sign_is_no_pattern() -> None:
    def of(output: str | None, driving: str = "b.mp4") -> Recording:
        return Recording(source=Path("100%.png"), driving=Path(driving), output=output)

    assert of(None).whole == Path("100%--b.mp4")
    assert of("made/").whole == Path("made/100%--b.mp4")
    assert of("made/").manifest == Path("made/100%--b.json")
    assert of("made/", "c.mp4").whole != of("made/").whole, "each has its own lock"
    assert of(None, "frames/%05d.png").manifest == Path("100%--%05d.json")
    assert of("50%.png").comparison == Path("50%--compare.mp4")
    assert of("x/%05d.png").whole == Path("x")
    assert of("50%").manifest == Path("50%.json")


def test_per_cent_signs_everywhere(run: Run, here: Path, tiny: Path, media: Path, frames: Path) -> None:
    shutil.copy(here / "a.png", here / "100%.png")
    done = run("animate", "-s", "a.png", "-d", "frames/%05d.png", "--preset", tiny)
    assert done.code == 0, done.err
    assert {"a--%05d.mp4", "a--%05d.json"} <= set(left_in(here))
    for driving in ("one.mp4", "drive.mp4"):
        done = run("animate", "-s", "100%.png", "-d", media / driving, "--preset", tiny, "-o", "made/")
        assert done.code == 2, "the folder is to be made first"
        assert "made" in done.err
    (here / "made").mkdir()
    for driving in ("one.mp4", "drive.mp4"):
        done = run("animate", "-s", "100%.png", "-d", media / driving, "--preset", tiny, "-o", "made/")
        assert done.code == 0, done.err
    assert sorted(path.name for path in (here / "made").iterdir()) == [
        "100%--drive.json", "100%--drive.mp4", "100%--one.json", "100%--one.mp4",
    ]  # fmt: skip
    done = run("edit", "-s", "100%.png", "--smile", 1, "--preset", tiny)
    assert done.code == 0, done.err
    assert {"100%--edited.png", "100%--edited.png.json"} <= set(left_in(here))


@pytest.mark.parametrize("output", ["%05d.png", "./%05d.png", "/%05d.png", "frames/../%05d.png"])
@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_the_current_folder_is_not_replaced(
    run: Run, here: Path, tiny: Path, frames: Path, output: str, more: tuple[str, ...]
) -> None:
    before = left_in(here)
    says = "holds the source" if ".." in output else "name a new"
    refused(run("animate", "-s", "a.png", "-d", "frames", "-o", output, "--preset", tiny, *more), says)
    (here / "k.csv").write_text("time,yaw\n0,0\n0.2,8\n")
    line = ("edit", "-s", "a.png", "--keyframes", "k.csv", "-o", output, "--preset", tiny, *more)
    refused(run(*line), says)
    (here / "k.csv").unlink()
    assert left_in(here) == before


def test_a_batch_of_the_current_folder(
    run: Run, here: Path, media: Path, tiny: Path, face: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clips", "made"):
        (here / name).mkdir()
    shutil.copy(media / "one.mp4", here / "clips" / "d.mp4")
    Image.fromarray(face).save(here / "a.png")
    monkeypatch.chdir(here / "clips")
    done = run("batch", ".", "-s", "../a.png", "-o", "../made/", "--preset", tiny)
    assert done.code == 0, done.err
    assert (here / "made" / "a--d.mp4").is_file()
    assert (here / "clips.status.jsonl").is_file(), "beside the folder, as where it is named"

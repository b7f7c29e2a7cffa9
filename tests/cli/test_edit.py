"""`vivant edit`: from a line to a picture or a video, with other programs' sliders; and lines that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.errors import InputError
from vivant.marks import job
from vivant.marks.credentials import read
from vivant.media.hashing import file_sha256
from vivant.media.reader import read_clip

from .lines import Run, left_in


def test_a_picture_is_edited(run: Run, media: Path, tiny: Path, here: Path) -> None:
    line = ("edit", "-s", media / "face.png", "--preset", tiny)
    done = run(*line, "--yaw", "5", "--rotate_yaw=3", "--face-editor-mouth-smile", "0.5", "--set", "brows=1")
    assert (done.code, done.err) == (0, ""), done.err
    assert done.out == "face--edited.png: 400x400\n"
    made = json.loads((here / "face--edited.png.json").read_text())
    asked = {name: value for name, value in made["controls"].items() if value}
    assert asked == {"yaw": 2.0, "smile": 0.5, "brows": 1.0}
    assert str(tiny.parent) not in json.dumps(made), "a manifest names no folder"
    assert run(*line, "--sliders", "alp", "--blink", "-20", "-o", "alp.png", "-q").out == ""
    assert run(*line, "--blink", "1", "-o", "ours.png").code == 0
    assert np.array_equal(*(np.asarray(Image.open(here / name)) for name in ("alp.png", "ours.png")))


def test_edits_are_marked_and_only_they(run: Run, media: Path, tiny: Path, here: Path) -> None:
    line = ("edit", "-s", media / "face.png", "--preset", tiny, "--blink", "0.5", "--consent", "Ada agreed")
    assert run(*line, "-o", "marked.png").code == 0
    assert run(*line, "-o", "bare.png", "--no-watermark").code == 0
    marked, bare, source = (
        np.asarray(Image.open(path)).astype(int) for path in ("marked.png", "bare.png", media / "face.png")
    )
    told = [json.loads((here / f"{name}.png.json").read_text())["marks"] for name in ("marked", "bare")]
    assert told[0]["consent"] == "Ada agreed"
    assert int(told[0]["watermark"], 16) > 0
    assert told[1]["watermark"] == "removed by --no-watermark"
    assert 0 < np.abs(marked - bare).max() < 20
    assert (bare != source).any(-1).mean() < 0.5, "what is not edited keeps its bytes"
    assert (
        run("edit", "-s", here / "marked.png", "--preset", tiny, "--smile", "1", "-o", "again.jpg").code == 0
    )
    said = run("verify", here / "again.jpg").out
    assert "credentials: intact" in said
    assert (
        f"made from: source, sha256 {file_sha256(here / 'marked.png')}; its own credentials: intact" in said
    )
    assert "consent: Ada agreed" in run("verify", here / "marked.png").out


def test_keyframes_become_a_video(run: Run, media: Path, tiny: Path, here: Path) -> None:
    (here / "k.csv").write_text("time,yaw,blink\n0,0,0\n0.2,8,1\n0.4,0,0\n")
    line = ("edit", "-s", media / "face.png", "--preset", tiny, "--keyframes", "k.csv")
    done = run(*line, "--fps", "10", "-o", "out.mp4")
    assert (done.code, done.out) == (0, "out.mp4: 5 frames, 400x400\n"), done.err
    with read_clip("out.mp4") as clip:
        assert (clip.frame_rate, len(list(clip))) == (10, 5)
    assert run(*line, "--fps", "10", "-o", "frames/%03d.png").code == 0
    source = np.asarray(Image.open(media / "face.png"))
    same = [np.array_equal(np.asarray(Image.open(p)), source) for p in sorted((here / "frames").iterdir())]
    assert same == [True, False, False, False, True], "where nothing is asked for, the picture itself"
    assert {read(path).state for path in (here / "frames").iterdir()} == {"untrusted"}, "each is signed"
    assert run(*line, "--preview", "0.2", "-o", "preview.png").code == 0
    assert np.array_equal(*(np.asarray(Image.open(here / n)) for n in ("preview.png", "frames/002.png"))), (
        "a preview is a frame of the video"
    )


def test_a_video_is_edited_where_it_is_asked_for(run: Run, media: Path, tiny: Path, here: Path) -> None:
    (here / "k.json").write_text(
        '[{"time": 0.04, "yaw": 0}, {"time": 0.08, "yaw": 9}, {"time": 0.12, "yaw": 0}]'
    )
    line = ("edit", "-s", media / "drive.mp4", "--preset", tiny, "--keyframes", "k.json")
    done = run(*line, "-o", "frames/%02d.png")
    assert (done.code, done.out) == (0, "frames/%02d.png: 5 frames, 240x240\n"), done.err
    with read_clip(media / "drive.mp4") as clip:
        source = [frame.image for frame in clip]
    drawn = [np.asarray(Image.open(p)) for p in sorted((here / "frames").iterdir())]
    same = [np.array_equal(one, other) for one, other in zip(drawn, source, strict=True)]
    assert same == [True, True, False, True, True], "zero is the frame itself, byte for byte"
    assert run(*line, "--preview", "0.08", "-o", "one.png").code == 0
    assert np.array_equal(np.asarray(Image.open(here / "one.png")), drawn[2])
    assert run("edit", "-s", media / "drive.mp4", "--preset", tiny, "--brows", "1").code == 0
    with read_clip("drive--edited.mp4") as clip:
        assert len(list(clip)) == 5
    done = run(*line, "--preview", "9", "-o", "late.png")
    assert (done.code, "no frame at 9" in done.err) == (2, True)
    assert not (here / "late.png").exists()


def test_what_cannot_be_signed_is_not_left_behind(
    run: Run, media: Path, tiny: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither unsigned, nor in the place of what was there."""

    def fails(*given: object) -> None:
        raise InputError("the file cannot be signed")

    monkeypatch.setattr(job, "sign", fails)
    (here / "k.csv").write_text("time,yaw\n0,0\n0.2,8\n")
    (here / "frames").mkdir()
    for name in ("old.png", "old.mp4", "frames/00000.png"):
        (here / name).write_text("mine")
    before = left_in(here)
    line = ("edit", "-s", media / "face.png", "--preset", tiny, "--overwrite")
    over_time = ("--keyframes", "k.csv", "--fps", 10)
    for more in (
        ("--smile", 1, "-o", "new.png"),
        ("--smile", 1, "-o", "old.png"),
        (*over_time, "-o", "old.mp4"),
        (*over_time, "-o", "frames/%05d.png"),
    ):
        done = run(*line, *more)
        assert (done.code, "cannot be signed" in done.err) == (2, True), done.err
        assert left_in(here) == before
    assert {(here / name).read_text() for name in before if name != "k.csv"} == {"mine"}


def test_lines_that_cannot_be(run: Run, media: Path, tiny: Path, here: Path) -> None:
    (here / "k.json").write_text('[{"time": 0, "yaw": 20}]')
    line = ("edit", "-s", media / "face.png", "--preset", tiny)
    for more, says in (
        ((), "nothing is to be edited"),
        (("--yaw", "26"), "yaw is between -25 and 25"),
        (("--blink", "-20"), "add --sliders alp"),
        (("--rotate_pitch", "30"), "rotate_pitch is between -20 and 20"),
        (("--set", "nose=1"), "there is no control 'nose'"),
        (("--set", "smile"), "not a name and a number"),
        (("--smile", "1", "-o", "out.mp4"), "out.mp4 is not a picture name"),
        (("--smile", "1", "-o", "none/out.png"), "its folder does not exist"),
        (("--keyframes", "none.json"), "none.json does not exist"),
        (("--keyframes", "k.json", "--yaw", "10"), "yaw is between"),
        (("--keyframes", "k.json", "--preview", "-1"), "time in seconds from 0"),
        (("--smile", "1", "--face", "7"), "face"),
    ):
        done = run(*line, *more)
        assert (done.code, says in done.err, "Traceback" in done.err) == (2, True, False), (more, done.err)
    done = run("edit", "-s", "none.png", "--smile", "1", "--preset", tiny)
    assert (done.code, "none.png does not exist" in done.err) == (2, True)
    assert left_in(here) == ["k.json"]

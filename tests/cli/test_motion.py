"""`vivant motion`, and a motion file as driver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .lines import Run, shifted, write_driving


def test_record_info_and_replay(run: Run, media: Path, tiny: Path, here: Path) -> None:
    done = run("motion", "record", media / "drive.mp4", "-o", "m.safetensors", "--preset", tiny)
    assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
    assert done.out.startswith("m.safetensors: ")
    told = run("motion", "info", "m.safetensors")
    assert "recorded from drive.mp4 for liveportrait (compact-81)" in told.out
    done = run("animate", "-s", media / "face.png", "-d", "m.safetensors", "--preset", tiny, "-o", "out.mp4")
    assert done.code == 0, done.err
    assert (here / "out.mp4").is_file()


def test_what_cannot_be(run: Run, media: Path, tiny: Path, here: Path) -> None:
    done = run("motion", "record", media / "drive.mp4", "-o", "m.pkl", "--preset", tiny)
    assert (done.code, "should end in .safetensors" in done.err) == (2, True)
    done = run("animate", "-s", media / "face.png", "-d", "none.safetensors", "--preset", tiny)
    assert (done.code, "none.safetensors does not exist" in done.err) == (2, True)
    (here / "odd.safetensors").write_bytes(b"\x80\x04cposix\nsystem\n.")
    done = run("animate", "-s", media / "face.png", "-d", "odd.safetensors", "--preset", tiny)
    assert (done.code, "odd.safetensors is not a motion file" in done.err) == (2, True)
    assert sorted(path.name for path in here.iterdir()) == ["odd.safetensors"]


def test_made_of_motion_files(run: Run, media: Path, tiny: Path, here: Path) -> None:
    """From a recording through every command to a video; then what cannot be."""
    clip = write_driving(here / "clip.mp4", repeated(media / "face.png", 12))
    assert run("motion", "record", clip, "-o", "m.safetensors", "--preset", tiny).code == 0
    for line, says in (
        (("slice", "m.safetensors", "-o", "a.safetensors", "--start", "0.08", "--stop", "0.4"), "8 frames"),
        (("slice", "m.safetensors", "-o", "b.safetensors", "--frames", "3:"), "9 frames"),
        (
            (
                "mix",
                "a.safetensors",
                "--lips",
                "b.safetensors",
                "--lips-weight",
                "0.5",
                "-o",
                "c.safetensors",
            ),
            "8 frames",
        ),
        (
            (
                "join",
                "a.safetensors",
                "c.safetensors",
                "-o",
                "d.safetensors",
                "--fade",
                "0.04",
                "--fps",
                "25",
            ),
            "15 frames",
        ),
        (
            ("loop", "d.safetensors", "-o", "e.safetensors", "--fade", "0.08", "--times", "2"),
            "frames, from frames",
        ),
    ):
        done = run("motion", *line)
        assert (done.code, says in done.out) == (0, True), (line, done.out, done.err)
    done = run("animate", "-s", media / "face.png", "-d", "e.safetensors", "--preset", tiny, "-o", "out.mp4")
    assert done.code == 0, done.err
    for line, says in (
        (("slice", "m.safetensors", "-o", "x.safetensors", "--frames", "8"), "write 40:80"),
        (("slice", "m.safetensors", "-o", "x.safetensors", "--start", "9"), "is no part of it"),
        (("mix", "m.safetensors", "-o", "x.safetensors"), "at least one part"),
        (
            ("join", "a.safetensors", "b.safetensors", "-o", "x.mp4", "--fade", "0"),
            "should end in .safetensors",
        ),
        (("loop", "a.safetensors", "-o", "x.safetensors", "--fade", "1"), "too short for a loop"),
    ):
        done = run("motion", *line)
        assert (done.code, says in done.err) == (2, True), (line, done.err)
    assert not [path for path in here.iterdir() if path.name.startswith(("x", ".vivant"))]


def repeated(path: Path, count: int) -> list[np.ndarray]:
    return shifted(np.asarray(Image.open(path)), 2) * (count // 2)

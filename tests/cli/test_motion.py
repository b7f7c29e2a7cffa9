"""`vivant motion`, and a motion file as driver."""

from __future__ import annotations

from pathlib import Path

from .lines import Run


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

"""`vivant inspect`: the numbers that --face takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .lines import Run


def test_faces_are_numbered_and_drawn(run: Run, media: Path, here: Path) -> None:
    one = Image.open(media / "face.png").convert("RGB")
    two = Image.new("RGB", (one.width * 2, one.height), (90, 90, 90))
    two.paste(one, (0, 0))
    two.paste(one.resize((one.width * 3 // 4, one.height * 3 // 4)), (one.width, 0))
    two.save("two.png")
    done = run("inspect", "two.png", "-o", "numbered.jpg")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "two.png: 2 faces in the picture"
    assert [line.split(":")[0].strip() for line in lines[1:3]] == ["0", "1"]
    assert "--face 1" in lines[2]
    drawn, before = np.asarray(Image.open("numbered.jpg")), np.asarray(two)
    assert drawn.shape == before.shape
    assert np.abs(drawn.astype(int) - before).max() > 100
    assert "exists already" in run("inspect", "two.png", "-o", "numbered.jpg").err


def test_clips_and_nothing(run: Run, media: Path, here: Path) -> None:
    assert "in frame 0" in run("inspect", media / "drive.mp4").out
    Image.new("RGB", (200, 200)).save("black.png")
    done = run("inspect", "black.png")
    assert (done.code, done.out) == (0, "black.png: 0 faces in the picture\n")
    done = run("inspect", "none.png")
    assert (done.code, "none.png" in done.err) == (2, True)
    assert run("inspect", "black.png", "-o", "faces.txt").code == 2
    assert sorted(path.name for path in here.iterdir()) == ["black.png"]

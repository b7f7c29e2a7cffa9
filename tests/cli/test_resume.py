"""Runs that are killed with SIGKILL go on with --resume, and what they make is the same to the byte."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.animation import Animation
from vivant.media.audio import read_audio
from vivant.media.reader import VideoReader
from vivant.presets import DEFAULT_PRESET

from .lines import DRIVING_RATE, NUM_DRIVING, Run, left_in, tone, write_driving


def killed(here: Path, point: str, count: int, *line: object) -> None:
    """Run `vivant LINE` in a process that is killed there."""
    program = [sys.executable, str(Path(__file__).with_name("killed.py")), point, str(count)]
    root = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [*program, *map(str, line)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def hashes(folder: Path, *names: str) -> list[str]:
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


def test_a_video_that_is_killed_again_and_again(
    run: Run, here: Path, media: Path, tiny: Path, driving: Path
) -> None:
    """In a segment, between a segment and its mark, while joining, and while the results are moved."""
    line = (
        "animate", "--no-credentials",
        "-s", media / "face.png", "-d", driving, "--preset", tiny, "--compare", "--segment-seconds", 1,
    )  # fmt: skip
    assert run(*line, "-o", "whole.mp4").code == 0
    line = (*line, "-o", "made.mp4")
    killed(here, "frame", 26, *line)
    assert ".made.mp4.vivant-parts/output-00000.mp4" in left_in(here), (
        "ten frames, while a neutral face is found"
    )
    refused = run(*line)
    assert refused.code == 2
    assert "made.mp4 was begun and not finished; use --resume to go on" in refused.err
    refused = run(*line, "--resume", "--absolute")
    assert refused.code == 2
    assert "other input or settings (options.relative was True, is False)" in refused.err
    killed(here, "mark", 2, *line, "--resume")
    killed(here, "join", 12, *line, "--resume")
    assert "made.mp4" not in left_in(here)
    killed(here, "move", 2, *line, "--resume")
    done = run(*line, "--resume")
    assert done.code == 0, done.err
    assert left_in(here) == [
        f"{name}{ending}" for name in ("made", "whole") for ending in ("--compare.mp4", ".json", ".mp4")
    ]
    assert hashes(here, "made.mp4", "made--compare.mp4") == hashes(here, "whole.mp4", "whole--compare.mp4")
    made, whole = (json.loads((here / name).read_text()) for name in ("made.json", "whole.json"))
    assert made["num_frames"] == NUM_DRIVING
    assert made["frames_without_face"] == whole["frames_without_face"]
    assert (whole["num_resumed"], made["num_resumed"]) == (0, 3), "the last one had only to move"

    with VideoReader(here / "made.mp4") as clip:
        assert [frame.time for frame in clip] == [index / DRIVING_RATE for index in range(NUM_DRIVING)]
    before, after = (
        np.concatenate([c.samples for c in read_audio(p, 16000, 1)]) for p in (driving, here / "made.mp4")
    )
    assert len(after) == pytest.approx(len(before), abs=1100)
    size = min(len(before), len(after))
    assert np.array_equal(after[:size], before[:size]), "one piece of sound, in place"


def test_two_people_of_a_video_with_a_driver_each(
    run: Run, here: Path, face: np.ndarray, tiny: Path, media: Path
) -> None:
    """One of them is driven by a picture, and the other one's driver ends before the video."""
    right = np.asarray(255 - (255 - face[:, ::-1].astype(int)) * 0.8, np.uint8)
    couple = np.concatenate([face[:, :230], right[:, 165:]], axis=1)
    write_driving(here / "s.mp4", [couple[:320, i : 446 + i] for i in range(18)], DRIVING_RATE)
    line = (
        "animate", "--no-credentials", "-s", "s.mp4", "--map", f"0={media / 'drive.mp4'}",
        "--map", f"1={media / 'face.png'}", "--length", "source", "--preset", tiny, "--segment-seconds", 1,
    )  # fmt: skip
    assert run(*line, "-o", "whole.mp4").code == 0
    line = (*line, "-o", "made.mp4", "--resume")
    killed(here, "frame", 8, *line)
    killed(here, "mark", 2, *line)
    assert ".made.mp4.vivant-parts/output-00000.mp4" in left_in(here)
    done = run(*line)
    assert done.code == 0, done.err
    assert hashes(here, "made.mp4") == hashes(here, "whole.mp4")
    made, whole = (json.loads((here / name).read_text()) for name in ("made.json", "whole.json"))
    assert (made["num_frames"], whole["num_frames"], made["num_resumed"]) == (18, 18, 2)


def test_a_neutral_face_is_an_input(run: Run, here: Path, media: Path, tiny: Path, driving: Path) -> None:
    """What it shows is part of the job; where it lies is not, and no folder is told."""
    for name in ("face.png", "neutral.png"):
        shutil.copy(media / "face.png", here / name)
    line = (
        "animate", "--no-credentials", "-s", here / "face.png", "--map", f"0={driving}", "--preset", tiny,
        "--reference-frame", here / "neutral.png", "--segment-seconds", 1, "-o", "o.mp4",
    )  # fmt: skip
    killed(here, "mark", 2, *line)
    with Image.open(here / "neutral.png") as image:
        image.rotate(3).save(here / "neutral.png")
    refused = run(*line, "--resume")
    assert refused.code == 2
    assert "other input or settings (inputs.reference frame.sha256 was" in refused.err
    shutil.copy(media / "face.png", here / "neutral.png")
    done = run(*line, "--resume")
    assert done.code == 0, done.err
    text = (here / "o.json").read_text()
    manifest = json.loads(text)
    assert manifest["inputs"]["reference frame"]["name"] == "neutral.png"
    assert manifest["settings"]["reference_frame"] == "neutral.png"
    assert manifest["settings"]["map"] == [f"0={driving.name}"]
    assert str(here) not in text
    assert str(driving.parent) not in text


def test_saved_motion_to_pictures(run: Run, here: Path, media: Path, tiny: Path, driving: Path) -> None:
    assert run("motion", "record", driving, "--preset", tiny, "-o", "m.safetensors").code == 0
    line = (
        "animate", "--no-credentials",
        "-s", media / "face.png", "-d", "m.safetensors", "--preset", tiny, "--no-paste-back",
        "--segment-seconds", 1, "--resume",
    )  # fmt: skip
    assert run(*line, "-o", "whole").code == 0
    killed(here, "picture", 13, *line, "-o", "made/%03d.png")
    assert run(*line, "-o", "made/%03d.png").code == 0
    assert left_in(here) == [
        "m.safetensors", "made.json", *(f"made/{index:03}.png" for index in range(NUM_DRIVING)),
        "whole.json", *(f"whole/{index:05}.png" for index in range(NUM_DRIVING)),
    ]  # fmt: skip
    for index in range(NUM_DRIVING):
        assert hashes(here, f"made/{index:03}.png") == hashes(here, f"whole/{index:05}.png")


def test_speech(run: Run, here: Path, face: np.ndarray) -> None:
    Image.fromarray(face[30:190, 110:270]).save(here / "face.png")
    line = (
        "animate", "--no-credentials",
        "-s", "face.png", "-d", tone(here / "t.wav", 0.6), "--dtype", "float32", "--preset", DEFAULT_PRESET,
        "--segment-seconds", 0.2, "--face", "none", "--seed", 3,
    )  # fmt: skip
    assert run(*line, "-o", "whole.mp4").code == 0
    killed(here, "frame", 13, *line, "-o", "made.mp4")
    assert run(*line, "-o", "made.mp4", "--resume").code == 0
    assert hashes(here, "made.mp4") == hashes(here, "whole.mp4")


def test_ctrl_c_keeps_what_is_done_only_if_that_is_wanted(
    run: Run, here: Path, media: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (
        "animate", "--no-credentials",
        "-s", media / "face.png", "-d", media / "drive.mp4", "--preset", tiny, "-o", "o.mp4",
        "--reference-frame", 0, "--segment-seconds", 0.08,
    )  # fmt: skip
    original = Animation.__next__

    def stopped(self: Animation) -> np.ndarray:
        if self.report.num_frames == 3:
            deadline = time.monotonic() + 60  # the encoder is behind
            while not list(here.glob(".*/mark")) and time.monotonic() < deadline:
                time.sleep(0.01)
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Animation, "__next__", stopped)
        assert run(*line).code == 130
        assert left_in(here) == []
        done = run(*line, "--resume")
    assert done.code == 130
    assert done.err.splitlines() == [
        "vivant: what is done of o.mp4 is kept; the same command with --resume goes on.",
        "vivant: interrupted.",
    ]
    assert ".o.mp4.vivant-parts/output-00000.mp4" in left_in(here)
    assert run(*line, "--overwrite").code == 0, "begins again"
    assert left_in(here) == ["o.json", "o.mp4"]


def test_two_runs_do_not_make_one_file(run: Run, here: Path, media: Path, tiny: Path) -> None:
    from vivant.media.parts import Parts

    parts = Parts.open(Path("o.mp4"))
    done = run(
        "animate",
        "--no-credentials",
        "-s",
        media / "face.png",
        "-d",
        media / "one.mp4",
        "--preset",
        tiny,
        "-o",
        "o.mp4",
    )
    assert done.code == 2
    assert "o.mp4 is being made by another run" in done.err
    parts.remove()
    assert left_in(here) == []

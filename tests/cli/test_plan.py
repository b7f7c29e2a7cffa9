"""vivant plan: as many frames as there will be, and a disk of the right size, without writing anything."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant import plan
from vivant.media.resample import num_resampled, resample
from vivant.media.types import Frame

from .lines import DRIVING_RATE, Run, left_in, tone, write_driving


def planned(run: Run, *line: object) -> dict[str, object]:
    done = run("plan", *line, "--json")
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


@pytest.mark.parametrize(("paste", "output"), [("--paste-back", "o.mp4"), ("--no-paste-back", "o/%03d.png")])
def test_it_comes_true(
    run: Run,
    here: Path,
    media: Path,
    tiny: Path,
    driving: Path,
    monkeypatch: pytest.MonkeyPatch,
    paste: str,
    output: str,
) -> None:
    """Ten frames are tried of 29, at another rate than the driver's."""
    monkeypatch.setattr(plan, "TRIAL_FRAMES", 10)
    line = ("-s", media / "face.png", "-d", driving, "--preset", tiny, paste, "-o", output, "--fps", 6)
    said = planned(run, *line, "--segment-seconds", 1)
    assert left_in(here) == []
    assert run("animate", *line, "--segment-seconds", 1).code == 0
    manifest = json.loads((here / "o.json").read_text())
    assert said["num_frames"] == manifest["num_frames"] == 29
    assert (said["width"], said["height"]) == (manifest["output"]["width"], manifest["output"]["height"])
    assert said["trial_frames"] == 10
    files = [here / name for name in left_in(here) if not name.endswith(".json")]
    size = sum(path.stat().st_size for path in files)
    assert size / 1.5 < said["output_bytes"] < size * 1.5
    assert said["disk_bytes"] >= (2 if output.endswith(".mp4") else 1) * said["output_bytes"]
    assert said["fits"] is (said["disk_bytes"] < said["disk_free_bytes"])
    assert 0 <= said["start_seconds"] < said["run_seconds"]
    assert said["run_seconds"] == pytest.approx(said["start_seconds"] + 29 * said["seconds_per_frame"])
    assert 100e6 < said["memory_bytes"] < 20e9


def test_videos_and_several_faces_come_true_in_a_batch(
    run: Run, here: Path, face: np.ndarray, media: Path, tiny: Path, driving: Path
) -> None:
    """Two people of a video, driven by clips of other lengths; a picture of both; and a video driven by a picture."""
    right = np.asarray(255 - (255 - face[:, ::-1].astype(int)) * 0.8, np.uint8)
    couple = np.ascontiguousarray(np.concatenate([face[:, :230], right[:, 165:]], axis=1)[:320])
    Image.fromarray(couple).save(here / "s.png")
    write_driving(here / "s.mp4", [couple[:, i : 446 + i] for i in range(8)], DRIVING_RATE)
    short, long = media / "drive.mp4", driving
    items = [
        {"source": "s.mp4", "map": [f"0={long}", f"1={short}"], "output": "a.mp4", "length": "shortest"},
        {"source": "s.mp4", "map": [f"0={short}", f"1={short}"], "output": "b.mp4", "length": "source"},
        {"source": "s.png", "driving": str(short), "face": "all", "output": "c.mp4"},
        {"source": "s.mp4", "driving": str(media / "face.png"), "output": "d/%02d.png"},
    ]
    said = []
    for item in items:
        line: list[object] = ["--preset", tiny, "--segment-seconds", 1]
        for name, value in item.items():
            line += [
                word
                for each in (value if isinstance(value, list) else [value])
                for word in (f"--{name}", each)
            ]
        said.append(planned(run, *line))
    assert [told["num_frames"] for told in said] == [8, 8, 5, 8]
    (here / "jobs.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    done = run("batch", "jobs.jsonl", "--preset", tiny, "--segment-seconds", 1)
    assert done.code == 0, done.err
    for told, name in zip(said, ("a", "b", "c", "d"), strict=True):
        manifest = json.loads((here / f"{name}.json").read_text())
        assert told["num_frames"] == manifest["num_frames"]
        assert (told["width"], told["height"]) == (manifest["output"]["width"], manifest["output"]["height"])
        files = [here / made for made in left_in(here) if made.startswith((f"{name}.mp4", f"{name}/"))]
        size = sum(path.stat().st_size for path in files)
        assert size / 1.5 < told["output_bytes"] < size * 1.5


def test_speech_and_words(run: Run, here: Path, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "TRIAL_FRAMES", 3)
    full = type("", (), {"free": 10_000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    done = run("plan", "-s", media / "face.png", "-d", tone(here / "t.wav", 61.01), "--dtype", "float32")
    assert done.code == 0, done.err
    assert done.out.startswith("face--t.mp4: 1526 frames, 400x400, 1 min 1 s at 25 per second\n  time    ")
    assert done.out.endswith("0.0 MB are free: NOT ENOUGH\n")


def test_it_refuses_what_animate_refuses(run: Run, here: Path, media: Path) -> None:
    (here / "o.mp4").touch()
    done = run("plan", "-s", media / "face.png", "-d", media / "one.mp4", "-o", "o.mp4")
    assert done.code == 2
    assert "o.mp4 exists already" in done.err


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(7)])
@pytest.mark.parametrize("end", [Fraction(1, 100), Fraction(1), Fraction(1001, 1000), Fraction(7999, 2000)])
def test_counted_as_resampled(rate: Fraction, end: Fraction) -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    frames = [Frame(image, Fraction(k, 30)) for k in range(120) if Fraction(k, 30) < end]
    assert num_resampled(rate, end) == len(list(resample(frames, rate, end=end)))

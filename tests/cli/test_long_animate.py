"""A hundred seconds take no more memory than twelve seconds, segments, bookmarks and joining included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vivant.media.reader import VideoReader
from vivant.media.writer import VideoWriter

from .lines import DRIVING_RATE, tone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SHORT, LONG = 300, 2400
PICTURE_BYTES = 64 * 64 * 3


def peak_mb(folder: Path, num_frames: int, tiny: Path) -> float:
    driving = folder / f"{num_frames}.mp4"
    sound = tone(folder / f"{num_frames}.wav", num_frames / 25)
    with VideoWriter(driving, 5 * DRIVING_RATE, 32, 32, preset="ultrafast", audio_from=sound) as writer:
        for index in range(num_frames):
            writer.write(np.full((32, 32, 3), index % 256, np.uint8))
    Image.new("RGB", (64, 64), "tan").save(folder / "face.png")
    target = folder / f"{num_frames}-made.mp4"
    done = subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("long_animate.py")), "animate", "-s", str(folder / "face.png"),
            "-d", str(driving), "-o", str(target), "--face", "none", "--driving-face", "none", "--preset", str(tiny),
            "--dtype", "float32", "-q",
        ],
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    with VideoReader(target) as clip:
        assert clip.num_frames_estimate == num_frames
        assert clip.has_audio
    return float(done.stdout)


def test_constant_memory(tmp_path: Path, tiny: Path) -> None:
    """All frames together would be 26 MB more. Allocators add up to 15 MB by chance, so the better of two."""
    short, long = (min(_peaks(tmp_path, length, tiny)) for length in (SHORT, LONG))
    assert long - short < (LONG - SHORT) * PICTURE_BYTES / 1e6


def _peaks(folder: Path, num_frames: int, tiny: Path) -> list[float]:
    peaks = []
    for attempt in range(2):
        place = folder / f"{num_frames}-{attempt}"
        place.mkdir()
        peaks.append(peak_mb(place, num_frames, tiny))
    return peaks

"""Ten minutes at 29.97: no drift, and no more memory than ten seconds."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from vivant.media.audio import read_audio
from vivant.media.reader import VideoReader
from vivant.media.resample import TIMESTAMP_SLACK

from .clips import NTSC, click_times, clicks, encode_sound, index_image, read_index

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LONG_SECONDS = 600
CLICKS_AT = [0.5, 60.25, 299.75, 451.0, 599.5]


@dataclass(frozen=True)
class Run:
    """One pass through the chain."""

    source: Path
    target: Path
    peak_mb: float


def long_clip(folder: Path, seconds: int) -> Path:
    """Numbered frames at 29.97 beside sound that clicks."""
    from vivant.media.writer import VideoWriter

    sound = encode_sound(
        folder / f"{seconds}.m4a", clicks(seconds, CLICKS_AT, 16000), "aac", sample_rate_hz=16000
    )
    path = folder / f"source_{seconds}.mp4"
    with VideoWriter(path, NTSC, 32, 32, preset="ultrafast", audio_from=sound) as writer:
        for index in range(round(seconds * NTSC)):
            writer.write(index_image(index))
    return path


def carried(folder: Path, seconds: int, rate: Fraction) -> Run:
    source = long_clip(folder, seconds)
    target = folder / f"target_{seconds}.mp4"
    script = Path(__file__).with_name("long_run.py")
    command = [sys.executable, str(script), str(source), str(target), str(rate)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return Run(source, target, float(result.stdout))


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """29.97 in, 29.97 out: the case in which others drift, because they count 30."""
    return carried(tmp_path_factory.mktemp("long"), LONG_SECONDS, NTSC)


def test_no_drift(long_run: Run) -> None:
    """The click at second 599.5 is heard while the frame of second 599.5 is seen."""
    one_frame = float(1 / NTSC)
    samples = np.concatenate([chunk.samples for chunk in read_audio(long_run.target, 16000, 10)])
    heard = click_times(samples, 16000)
    assert heard == pytest.approx(CLICKS_AT, abs=one_frame / 10)

    with VideoReader(long_run.target) as clip:
        seen = [(read_index(frame.image), frame.time) for frame in clip]
        assert clip.frame_rate == NTSC
    assert len(seen) == round(LONG_SECONDS * NTSC)
    assert all(time == index / NTSC for index, time in seen)

    with av.open(str(long_run.target)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.duration * video.time_base == len(seen) / NTSC
        assert abs(video.duration * video.time_base - audio.duration * audio.time_base) < 2 / NTSC


def test_constant_memory(long_run: Run, tmp_path: Path) -> None:
    """The promise is 200 MB. At this tiny size all frames together would be 55 MB, so less must do."""
    short = carried(tmp_path, 10, NTSC)
    assert long_run.peak_mb - short.peak_mb < 30


def test_other_rate_stays_in_place(tmp_path: Path) -> None:
    """One minute of 29.97 at 25: each output frame shows what the input showed at that time."""
    run = carried(tmp_path, 60, Fraction(25))
    with VideoReader(run.target) as clip:
        frames = [(read_index(frame.image), frame.time) for frame in clip]
    assert len(frames) == math.ceil(round(60 * NTSC) / NTSC * 25)
    assert all(index == math.floor((time + TIMESTAMP_SLACK) * NTSC) for index, time in frames)
    assert all(b > a for (a, _), (b, _) in pairwise(frames))

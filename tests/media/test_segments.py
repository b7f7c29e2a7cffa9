"""What is joined from segments is exact in time, has one sound, and does not depend on where a run was stopped."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vivant.errors import InputError
from vivant.media.audio import read_audio
from vivant.media.parts import Parts
from vivant.media.reader import read_clip
from vivant.media.segments import SegmentedPictures, SegmentedVideo

from .clips import NTSC, click_times, clicks, index_image, read_index, write_wav

NUM_FRAMES = 40
CUTS = (10, 17, 18)


def written(target: Path, rate: Fraction, *, stop_at: int | None = None, sound: Path | None = None) -> Path:
    """Numbered frames, cut at CUTS; a run that stops at `stop_at` leaves its open segment, and another goes on."""
    parts = Parts.open(target)
    num_segments = 0
    video = SegmentedVideo(target, parts, "output", rate, 32, 32, audio_from=sound)
    start = 0
    if stop_at is not None:
        for index in range(stop_at):
            video.write(index_image(index))
            if index + 1 in CUTS:
                video.cut()
        video.abort()
        num_segments = sum(cut <= stop_at for cut in CUTS)
        start = max((cut for cut in CUTS if cut <= stop_at), default=0)
        video = SegmentedVideo(
            target, parts, "output", rate, 32, 32, audio_from=sound, num_segments=num_segments
        )
    for index in range(start, NUM_FRAMES):
        video.write(index_image(index))
        if index + 1 in CUTS:
            video.cut()
    parts.finish([video.join()])
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []
    return target


@pytest.mark.parametrize("rate", [NTSC, Fraction(25), Fraction(12345, 1000), Fraction(1, 2)])
def test_frames_and_times_are_exact(tmp_path: Path, rate: Fraction) -> None:
    clip = read_clip(written(tmp_path / "a.mp4", rate))
    assert [(read_index(frame.image), frame.time) for frame in clip] == [
        (index, index / rate) for index in range(NUM_FRAMES)
    ]
    assert clip.duration == NUM_FRAMES / rate
    assert clip.frame_rate == rate


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_sound_is_one_piece(tmp_path: Path, name: str) -> None:
    """Clicks across the borders of segments, which lie at 0.4, 0.68 and 0.72 seconds."""
    at = [0.25, 0.4, 0.7, 1.2]
    sound = write_wav(tmp_path / "s.wav", clicks(2, at, 16000), 16000)
    made = written(tmp_path / name, Fraction(25), sound=sound)
    samples = np.concatenate([chunk.samples for chunk in read_audio(made, 16000, 1)])
    assert click_times(samples, 16000) == pytest.approx(at, abs=0.002)
    with av.open(str(made)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        ends = [stream.duration * stream.time_base for stream in (video, audio)]
    assert ends[0] == Fraction(NUM_FRAMES, 25)
    assert float(ends[1]) == pytest.approx(1.6, abs=0.025)
    data = made.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat"), "index at the front"


def test_stopped_anywhere_it_is_the_same(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.mp4", NTSC).read_bytes()
    for stop_at in (3, 10, 11, 17, 30):
        assert written(tmp_path / f"{stop_at}.mp4", NTSC, stop_at=stop_at).read_bytes() == whole


def test_pictures_replace_a_folder_of_pictures_only_if_told(tmp_path: Path) -> None:
    def made(*, overwrite: bool) -> None:
        parts = Parts.open(tmp_path / "frames")
        try:
            pictures = SegmentedPictures(tmp_path / "frames", parts, 32, 32, overwrite=overwrite)
            pictures.write(index_image(len(list(tmp_path.rglob("*.png")))))
            pictures.cut()
            parts.finish([pictures.join()], overwrite=overwrite)
        finally:
            parts.close(keep=False)

    made(overwrite=False)
    with pytest.raises(InputError, match="exists already"):
        made(overwrite=False)
    assert read_index(next(iter(read_clip(tmp_path / "frames"))).image) == 0
    made(overwrite=True)
    assert read_index(next(iter(read_clip(tmp_path / "frames"))).image) == 1
    (tmp_path / "frames" / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds other files \(notes.txt\)"):
        made(overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_a_move_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    """One of two files has its name already when the power fails; nobody else's file is taken for it."""
    parts = Parts.open(tmp_path / "a.mp4")
    parts.begin({"seed": 1}, resume=False, overwrite=False)
    for name in ("output.mp4", "manifest.json"):
        parts.put(name, lambda path: path.write_text("new"))
    parts.put(
        "finished.json",
        lambda path: path.write_text(
            f'[["manifest.json", "{tmp_path / "a.json"}"], ["output.mp4", "{tmp_path / "a.mp4"}"]]'
        ),
    )
    (parts.folder / "manifest.json").rename(tmp_path / "a.json")
    parts.close(keep=True)
    (tmp_path / "a.mp4").write_text("somebody else's")

    again = Parts.open(tmp_path / "a.mp4")
    again.begin({"seed": 1}, resume=True, overwrite=False)
    with pytest.raises(InputError, match=r"a\.mp4 exists already"):
        again.finish()
    (tmp_path / "a.mp4").unlink()
    again.finish()
    assert [(path.name, path.read_text()) for path in sorted(tmp_path.iterdir())] == [
        ("a.json", "new"), ("a.mp4", "new")
    ]  # fmt: skip

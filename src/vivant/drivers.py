"""What moves a portrait, as items one after another: frames of a clip, speech, saved motion; and following a face.

Everything here is an iterator that can be closed, at the output rate, with the number of frames to expect. Memory does
not grow with the length. `record_motion` turns a clip into saved motion.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import torch

from vivant.engine import Engine, Voice
from vivant.errors import InputError
from vivant.face.points import eye_openness, lip_openness
from vivant.face.track import FaceTracker
from vivant.face.window import DrivingWindow
from vivant.media.audio import read_audio
from vivant.media.overlap import prefetch
from vivant.media.reader import read_clip
from vivant.media.resample import resample, tidy_rate
from vivant.media.types import AudioChunk, Frame
from vivant.motion_file import MotionFile, MotionWriter
from vivant.session import Session

DrivingClip: TypeAlias = str | Path | Iterable[Frame | np.ndarray | AudioChunk]
"""A file or folder that `read_clip` opens, or frames (Frame, or uint8 (H, W, 3)) or sound one after another."""

DEFAULT_FRAME_RATE = Fraction(25)
"""For frames without times."""

Items: TypeAlias = Generator[Frame | AudioChunk | Any, None, None]
"""Frames, sound, or the family's Motion."""


@dataclass(frozen=True)
class Seen:
    """The driver's face in one frame."""

    image: np.ndarray
    """uint8 (size, size, 3)."""
    window: Any
    restart: bool
    openness: tuple[float, float, float]


class Follower:
    """The face of the driving clip, cut out frame by frame."""

    def __init__(self, size_px: int, face: str) -> None:
        self.seconds = 0.0
        self._tracker = FaceTracker(face)
        self._window = DrivingWindow(size_px)
        self._started = False

    def update(self, image: np.ndarray) -> Seen | None:
        begin = perf_counter()
        tracked = self._tracker.update(image)
        seen = None
        if tracked is not None:
            view = self._window.update(tracked.landmarks, cut=tracked.cut)
            seen = Seen(
                view.crop.apply(image),
                view.to_reference,
                view.restarted and self._started,
                (*eye_openness(tracked.landmarks), lip_openness(tracked.landmarks)),
            )
            self._started = True
        self.seconds += perf_counter() - begin
        return seen


def opened(
    driving: DrivingClip, rate: Fraction | None, allow_truncated: bool
) -> tuple[Items, Fraction | None, int | None]:
    """Driving as a closable iterator at the output rate, that rate, and the expected number of frames."""
    if not isinstance(driving, (str, Path)):
        estimate = len(driving) if isinstance(driving, Sized) else None
        return _timed(driving, rate or DEFAULT_FRAME_RATE), rate, estimate
    clip = read_clip(driving, allow_truncated=allow_truncated)
    rate = rate or tidy_rate(clip.frame_rate)
    estimate = round(clip.duration * rate) if clip.duration is not None else clip.num_frames_estimate
    return _prefetched(resample(clip, rate, end=clip.duration)), rate, estimate


def spoken(
    driving: str | Path, rate: Fraction | None, voice: Voice, seed: int
) -> tuple[Items, Fraction, int | None]:
    """The Motion that a file's sound asks for, as `opened` gives frames."""
    stream = voice.stream
    assert stream.frame_rate_hz is not None
    assert stream.sample_rate_hz is not None
    own = Fraction(stream.frame_rate_hz)
    if rate is not None and rate != own:
        raise InputError(f"speech moves faces at {own} frames per second, not {rate}; leave --fps out.")
    sound = read_audio(driving, stream.sample_rate_hz, 1 / own)

    def motions() -> Items:
        state = voice.start(seed)
        for chunk in sound:
            yield from voice.push(state, torch.from_numpy(chunk.samples))
        yield from voice.flush(state)

    return motions(), own, None


def replayed_motion(
    driving: str | Path, rate: Fraction | None, engine: Engine
) -> tuple[Items, Fraction, int | None]:
    """The frames of a motion file, as `opened` gives frames."""
    file = MotionFile(driving)
    file.check(engine.family, engine.motion_kind)
    own = file.header.frame_rate
    if rate is not None and rate != own:
        raise InputError(f"{driving} was recorded at {own} frames per second, not {rate}; leave --fps out.")

    def entries() -> Items:
        yield from file.entries(engine.motion_type)

    return entries(), own, len(file)


def record_motion(
    engine: Engine,
    driving: str | Path,
    path: Path,
    *,
    frame_rate: Fraction | float | None = None,
    driving_face: str = "largest",
    allow_truncated: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> int:
    """Save what a clip's driver does into a motion file; returns the number of frames. Raises InputError.

    Replaying the file (`animate` with its path) draws, bit for bit, what animating from the clip draws.
    """
    if engine.motion_type is None or engine.stream.driving != "video" or engine.stream.chunk_frames != 1:
        raise InputError(
            f"the motion of {engine.family} cannot be saved frame by frame; choose liveportrait."
        )
    wanted = Fraction(frame_rate).limit_denominator(1001) if frame_rate is not None else None
    frames, rate, estimate = opened(driving, wanted, allow_truncated)
    assert rate is not None, "files have a rate"
    follow = Follower(engine.crop_size_px, driving_face)
    session: Session | None = None
    count = 0
    with (
        closing(frames),
        MotionWriter(
            path, engine.family, engine.motion_kind, rate, Path(driving).name, overwrite=overwrite
        ) as writer,
    ):
        for count, frame in enumerate(frames, 1):
            assert isinstance(frame, Frame), "clips are read as frames"
            seen = follow.update(frame.image)
            if seen is None:
                writer.write(None)
            else:
                if session is None:  # nobody is animated: the driver stands in for a portrait
                    session = Session(engine, engine.prepare(seen.image, face=None))
                motion = session.see(seen.image, window=seen.window, openness=seen.openness)
                writer.write(motion, restarts=seen.restart)
            if progress is not None:
                progress(count, estimate)
    return count


def _prefetched(frames: Iterator[Frame]) -> Items:
    yield from prefetch(frames)


def _timed(items: Iterable[Frame | np.ndarray | AudioChunk], rate: Fraction) -> Items:
    for index, item in enumerate(items):
        yield Frame(item, index / rate) if isinstance(item, np.ndarray) else item

"""What moves a portrait, as items one after another: frames of a clip, speech, saved motion; and following a face.

Everything here is an iterator that can be closed, at the output rate, with the number of frames to expect. Memory does
not grow with the length. `record_motion` turns a clip into saved motion.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from vivant.engine import Engine, Voice
from vivant.errors import InputError
from vivant.face.points import eye_openness, head_angles, lip_openness
from vivant.face.track import FaceTracker
from vivant.face.window import DrivingWindow
from vivant.media.audio import read_audio
from vivant.media.overlap import prefetch
from vivant.media.reader import read_clip
from vivant.media.resample import resample, tidy_rate
from vivant.media.types import AudioChunk, Frame
from vivant.motion_file import Entry, Mark, MotionFile, MotionWriter
from vivant.place import FollowerState, Place
from vivant.session import Session

DrivingClip: TypeAlias = str | Path | Iterable[Frame | np.ndarray | AudioChunk]
"""A file or folder that `read_clip` opens, or frames (Frame, or uint8 (H, W, 3)) or sound one after another."""

DEFAULT_FRAME_RATE = Fraction(25)
"""For frames without times."""

Items: TypeAlias = Generator[Any, None, None]
"""Frames, sound, or the family's Motion."""


AUTO_SECONDS = 2
"""How far ahead a neutral face is looked for."""
MAX_REFERENCE_FRAME = 250
OPEN_EYES, RESTLESS_DEGREES = 0.3, 40.0
CLEARLY = 0.1


@dataclass(frozen=True)
class Seen:
    """The driver's face in one frame."""

    image: np.ndarray
    """uint8 (size, size, 3)."""
    window: Any
    restart: bool
    openness: tuple[float, float, float]
    unrest: float
    """How far from a neutral, frontal face with a closed mouth and open eyes; about 0 to 2."""


@dataclass(frozen=True)
class Watched:
    """A frame of the driving clip, watched."""

    time: Fraction
    seen: Seen | None
    """None where no face was found."""


@dataclass(frozen=True)
class Refers:
    """Not a frame: what relative motion is relative to, before the first one."""

    seen: Seen


class Follower:
    """The face of the driving clip, cut out frame by frame."""

    def __init__(self, size_px: int, face: str) -> None:
        self.seconds = 0.0
        self._tracker = FaceTracker(face)
        self._window = DrivingWindow(size_px)
        self._started = False

    @property
    def state(self) -> FollowerState:
        """What it remembers; give it to one made alike, and that one goes on from there."""
        return FollowerState(self.seconds, self._started, self._tracker.state, self._window.state)

    @state.setter
    def state(self, state: FollowerState) -> None:
        self.seconds, self._started = state.seconds, state.started
        self._tracker.state, self._window.state = state.tracker, state.window

    def update(self, image: np.ndarray) -> Seen | None:
        begin = perf_counter()
        tracked = self._tracker.update(image)
        seen = None
        if tracked is not None:
            view = self._window.update(tracked.landmarks, cut=tracked.cut)
            openness = (*eye_openness(tracked.landmarks), lip_openness(tracked.landmarks))
            yaw, pitch, _ = head_angles(tracked.landmarks)
            unrest = openness[2] + max(0.0, OPEN_EYES - sum(openness[:2]) / 2) * 2
            unrest += (abs(yaw) + abs(pitch)) / RESTLESS_DEGREES
            seen = Seen(
                view.crop.apply(image),
                view.to_reference,
                view.restarted and self._started,
                openness,
                unrest,
            )
            self._started = True
        self.seconds += perf_counter() - begin
        return seen


def watched(frames: Items, follow: Follower) -> Generator[Watched, None, None]:
    """Frames with the driver's face followed."""
    with closing(frames):
        for frame in frames:
            assert isinstance(frame, Frame), "sound has no face"
            yield Watched(frame.time, follow.update(frame.image))


def referring(
    items: Generator[Watched, None, None],
    reference: int | Literal["auto"],
    rate: Fraction,
    place: Place | None = None,
) -> Generator[Watched | Refers, None, None]:
    """The same items, and before them what their motion is relative to, where that is not the first.

    "auto": the calmest face of the first AUTO_SECONDS, if it is clearly calmer than the first; never beyond a cut.
    A number: that frame; looked ahead for, so at most MAX_REFERENCE_FRAME. Raises InputError.
    """
    ahead = round(AUTO_SECONDS * rate) if reference == "auto" else reference + 1
    waiting: list[Watched] = []
    place = place or Place()
    place.is_settled = False
    with closing(items):
        for item in items:
            waiting.append(item)
            if len(waiting) >= ahead or (reference == "auto" and item.seen is not None and item.seen.restart):
                break
        chosen = _reference(waiting, reference)
        if chosen is not None:
            yield Refers(chosen)
        yield from waiting[:-1]
        place.is_settled = True
        yield from waiting[-1:]
        yield from items


def checked_reference(reference: int | Literal["auto"]) -> int | Literal["auto"]:
    """The same, if it can be. Raises InputError."""
    if reference != "auto" and not 0 <= reference <= MAX_REFERENCE_FRAME:
        raise InputError(f"--reference-frame is auto or 0 to {MAX_REFERENCE_FRAME}, got {reference}.")
    return reference


def _reference(waiting: list[Watched], reference: int | Literal["auto"]) -> Seen | None:
    if reference != "auto":
        if reference >= len(waiting):
            raise InputError(
                f"--reference-frame {reference} is beyond the end; the clip has {len(waiting)} frames."
            )
        seen = waiting[reference].seen
        if seen is None:
            raise InputError(f"--reference-frame {reference} shows no face; choose another frame.")
        return seen
    faces = [item.seen for item in waiting if item.seen is not None and not item.seen.restart]
    if not faces:
        return None
    calmest = min(faces, key=lambda seen: seen.unrest)
    return calmest if calmest.unrest < faces[0].unrest - CLEARLY else None


def opened(
    driving: DrivingClip, rate: Fraction | None, allow_truncated: bool, place: Place | None = None
) -> tuple[Items, Fraction | None, int | None]:
    """Driving as a closable iterator at the output rate, that rate, and the expected number of frames."""
    place = place or Place()
    if not isinstance(driving, (str, Path)):
        estimate = len(driving) if isinstance(driving, Sized) else None
        return _timed(driving, rate or DEFAULT_FRAME_RATE, place), rate, estimate
    clip = read_clip(driving, allow_truncated=allow_truncated)
    rate = rate or tidy_rate(clip.frame_rate)
    estimate = round(clip.duration * rate) if clip.duration is not None else clip.num_frames_estimate
    return _prefetched(resample(clip, rate, end=clip.duration), place), rate, estimate


def spoken(
    driving: str | Path, rate: Fraction | None, voice: Voice, seed: int, place: Place
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
        if place.speech is None:
            place.speech = voice.start(seed)
        for chunk in place.rest_of(sound):
            due = voice.push(place.speech, torch.from_numpy(chunk.samples))
            for left, motion in zip(range(len(due) - 1, -1, -1), due, strict=True):
                place.is_settled = not left
                yield motion
        place.is_settled = False  # the end is short; nobody need go on from inside it
        yield from voice.flush(place.speech)

    return motions(), own, None


def replayed_motion(
    driving: str | Path, rate: Fraction | None, engine: Engine, place: Place
) -> tuple[Items, Fraction, int | None]:
    """The frames of a motion file, as `opened` gives frames."""
    file = MotionFile(driving)
    file.check(engine.family, engine.motion_kind)
    own = file.header.frame_rate
    if rate is not None and rate != own:
        raise InputError(f"{driving} was recorded at {own} frames per second, not {rate}; leave --fps out.")

    def entries() -> Items:
        reference = None if place.num_taken else file.reference(engine.motion_type)
        if reference is not None:
            yield Entry(Mark.REFERS, reference)
        for entry in file.entries(engine.motion_type, place.num_taken):
            place.num_taken += 1
            yield entry

    return entries(), own, len(file)


def record_motion(
    engine: Engine,
    driving: str | Path,
    path: Path,
    *,
    frame_rate: Fraction | float | None = None,
    driving_face: str = "largest",
    reference_frame: int | Literal["auto"] = "auto",
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
        closing(referring(watched(frames, follow), reference_frame, rate)) as items,
        MotionWriter(
            path, engine.family, engine.motion_kind, rate, Path(driving).name, overwrite=overwrite
        ) as writer,
    ):
        for item in items:
            motion = None
            if item.seen is not None:
                if session is None:  # nobody is animated: the driver stands in for a portrait
                    session = Session(engine, engine.prepare(item.seen.image, face=None))
                seen = item.seen
                motion = session.see(seen.image, window=seen.window, openness=seen.openness)
            if isinstance(item, Refers):
                writer.refer(motion)
                continue
            writer.write(motion, restarts=item.seen is not None and item.seen.restart)
            count += 1
            if progress is not None:
                progress(count, estimate)
    return count


def _prefetched(frames: Iterator[Frame], place: Place) -> Items:
    for frame in prefetch(islice(frames, place.num_taken, None)):
        place.num_taken += 1
        yield frame


def _timed(items: Iterable[Frame | np.ndarray | AudioChunk], rate: Fraction, place: Place) -> Items:
    for index, item in enumerate(place.rest_of(items), place.num_taken):
        yield Frame(item, index / rate) if isinstance(item, np.ndarray) else item

"""What moves a portrait, as items one after another: frames of a clip, speech, saved motion; and following a face.

Everything here is an iterator that can be closed, at the output rate, with the number of frames to expect. Memory does
not grow with the length.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from vivant.bookmark import Bookmark
from vivant.engine import Engine, StreamSpec
from vivant.errors import FaceError, InputError
from vivant.face.choose import parse_face_choice
from vivant.face.framing import given_square
from vivant.face.points import eye_openness, head_angles, lip_openness
from vivant.face.track import FaceTracker
from vivant.face.window import DrivingWindow, Similarity
from vivant.media.audio import read_audio
from vivant.media.image import read_image
from vivant.media.overlap import prefetch
from vivant.media.reader import read_clip
from vivant.media.resample import num_resampled, resample, tidy_rate
from vivant.media.types import AudioChunk, Frame
from vivant.motion_file import SUFFIX, Entry, Mark, MotionFile
from vivant.place import FollowerState, Place
from vivant.voice import Voice

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
    window: Similarity | None
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


@dataclass(frozen=True)
class Rests:
    """Not a frame: a shot begins with this face, and motion is relative to another one."""

    first: Seen
    neutral: Seen | None
    """The same person at rest, from a picture; None: the portrait itself."""


Reference: TypeAlias = int | Literal["auto"] | Path
"""What is neutral: the number of a driving frame, "auto", or a picture."""


class Follower:
    """The face of the driving clip, cut out frame by frame; or, where a square is given, that square."""

    def __init__(self, engine: Engine, face: str) -> None:
        self.seconds = 0.0
        self._size_px = engine.crop_size_px
        self._square = parse_face_choice(face).square
        self._tracker = FaceTracker(face if self._square is None else "largest")
        self._window = DrivingWindow(self._size_px, engine.driving_crop)
        self._started = False

    @property
    def state(self) -> FollowerState:
        """What it remembers; give it to one made alike, and that one goes on from there."""
        return FollowerState(self.seconds, self._started, self._tracker.state, self._window.state)

    @state.setter
    def state(self, state: FollowerState) -> None:
        self.seconds, self._started = state.seconds, state.started
        self._tracker.state, self._window.state = state.tracker, state.window

    def update(self, image: np.ndarray, *, irises: bool = True) -> Seen | None:
        """The face in the next frame; None where there is none. irises: see FaceTracker."""
        if self._square is not None:
            framing = given_square(image, self._square, size_px=self._size_px, name="the driving clip")
            return Seen(framing.cropped, Similarity(), False, (float("nan"),) * 3, 0.0)
        begin = perf_counter()
        tracked = self._tracker.update(image, irises=irises)
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


def resting(
    items: Generator[Watched, None, None], neutral: Seen | None, *, begun: bool = False
) -> Generator[Watched | Rests, None, None]:
    """The same items; before each shot, how its person looks at rest. begun: the first shot has begun before."""
    with closing(items):
        for item in items:
            if item.seen is not None and (item.seen.restart or not begun):
                begun = True
                yield Rests(item.seen, neutral)
                item = Watched(item.time, replace(item.seen, restart=False))
            yield item


def neutral_face(path: Path, engine: Engine, face: str) -> Seen:
    """The driver at rest, from a picture. Raises InputError or FaceError."""
    seen = Follower(engine, face).update(read_image(path))
    if seen is None:
        raise FaceError(f"{path} shows no face {face} that could be neutral; choose another picture.")
    return seen


def _checked(reference: int | Literal["auto"]) -> int | Literal["auto"]:
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
    calmest = min(seen.unrest for seen in faces)
    # The first of those that are about as calm: a clip that is cut to begin there begins with the same frame.
    first = next(seen for seen in faces if seen.unrest <= calmest + CLEARLY)
    return None if first is faces[0] else first


@dataclass(frozen=True)
class How:
    """How a clip shall drive."""

    rate: Fraction | None
    """Of the output, in frames per second; None: the clip's."""
    face: str | None
    """Which face drives; None where the frames are aligned crops."""
    reference: Reference | None
    """None: "auto" for files, else the first frame."""
    allow_truncated: bool = False
    voice: Voice | None = None
    """What speaks, where sound is to be spoken."""
    seed: int = 0
    resume: Bookmark | None = None
    """Where to go on."""


@dataclass(frozen=True)
class Driven:
    """What drives, ready to be pushed."""

    items: Items
    rate: Fraction | None
    """Frames per second; None where nothing tells."""
    num_frames: int | None
    """To expect; None where nothing tells."""
    place: Place = field(default_factory=Place)
    """How far it has come."""
    follow: Follower | None = None
    is_still: bool = False
    """One picture."""


def driven(engine: Engine[Any, Any, Any, Any, Any], driving: DrivingClip, how: How) -> Driven:
    """A clip, speech or saved motion as items at the output rate. Raises InputError or FaceError."""
    if isinstance(driving, (str, Path)):
        if how.voice is not None:
            return spoken(driving, how.rate, how.voice, how.seed, Place.in_mark(how.resume, how.voice))
        if Path(driving).suffix.lower() == SUFFIX:
            return replayed_motion(driving, how.rate, engine, Place.in_mark(how.resume))
        if engine.hears:
            return heard(driving, how.rate, engine, Place.in_mark(how.resume))
        how = replace(how, reference="auto") if how.reference is None else how
    return seen_clip(engine, driving, how)


def seen_clip(engine: Engine[Any, Any, Any, Any, Any], driving: DrivingClip, how: How) -> Driven:
    """A clip as items at the output rate, its driver's face followed. Raises InputError or FaceError."""
    clip = opened(driving, how)
    reference, place = how.reference, clip.place
    if engine.hears or how.face is None:
        if reference not in (None, "auto", 0):
            raise InputError(f"--reference-frame {reference} needs a clip in which a face is looked for.")
        return clip
    follow = place.follow = Follower(engine, how.face)
    if how.resume is not None:
        follow.state = how.resume.part("follower", FollowerState)
    items: Items = watched(clip.items, follow)
    if isinstance(reference, Path):
        neutral = neutral_face(reference, engine, how.face)
        items = resting(items, neutral, begun=follow.state.started)
    elif reference == "auto" and clip.is_still:
        items = resting(items, None)
    elif reference and how.resume is None:
        items = referring(items, _checked(reference), clip.rate or DEFAULT_FRAME_RATE, place)
    return replace(clip, items=items, follow=follow)


def opened(driving: DrivingClip, how: How) -> Driven:
    """The frames of a clip, or what comes one by one, unwatched."""
    rate, place = how.rate, Place.in_mark(how.resume)
    if not isinstance(driving, (str, Path)):
        estimate = len(driving) if isinstance(driving, Sized) else None
        return Driven(_timed(driving, rate or DEFAULT_FRAME_RATE, place), rate, estimate, place)
    clip = read_clip(driving, allow_truncated=how.allow_truncated)
    rate = rate or tidy_rate(clip.frame_rate)
    if clip.is_still:
        return Driven(_timed([next(iter(clip)).image], rate, place), rate, 1, place, is_still=True)
    estimate = num_resampled(rate, clip.duration) if clip.duration is not None else clip.num_frames_estimate
    return Driven(_prefetched(resample(clip, rate, end=clip.shown_until), place), rate, estimate, place)


def spoken(driving: str | Path, rate: Fraction | None, voice: Voice, seed: int, place: Place) -> Driven:
    """The Motion that a file's sound asks for."""
    own, sound = _sound_for(voice.stream, driving, rate, "speech moves faces at")

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

    return Driven(motions(), own, None, place)


def heard(driving: str | Path, rate: Fraction | None, engine: Engine, place: Place) -> Driven:
    """A file's sound, frame by frame, for a family that is driven by it."""
    own, sound = _sound_for(engine.stream, driving, rate, f"{engine.family} draws")

    def pieces() -> Items:
        yield from place.rest_of(sound)

    return Driven(pieces(), own, None, place)


def _sound_for(
    stream: StreamSpec, driving: str | Path, rate: Fraction | None, does: str
) -> tuple[Fraction, Iterator[AudioChunk]]:
    """The rate of who listens, and a file's sound in pieces of a frame. Raises InputError for another rate."""
    assert stream.frame_rate_hz is not None
    assert stream.sample_rate_hz is not None
    own = Fraction(stream.frame_rate_hz)
    if rate is not None and rate != own:
        raise InputError(f"{does} {own} frames per second, not {rate}; use --fps {own}.")
    return own, read_audio(driving, stream.sample_rate_hz, 1 / own)


def replayed_motion(driving: str | Path, rate: Fraction | None, engine: Engine, place: Place) -> Driven:
    """The frames of a motion file."""
    file = MotionFile(driving)
    file.check(engine.family, engine.motion_kind)
    own = file.header.frame_rate
    if rate is not None and rate != own:
        raise InputError(f"{driving} was recorded at {own} frames per second, not {rate}; use --fps {own}.")

    def entries() -> Items:
        reference = None if place.num_taken else file.reference(engine.motion_type)
        if reference is not None:
            yield Entry(Mark.REFERS, reference)
        for entry in file.entries(engine.motion_type, place.num_taken):
            place.num_taken += 1
            yield entry

    return Driven(entries(), own, len(file), place)


def _prefetched(frames: Iterator[Frame], place: Place) -> Items:
    for frame in prefetch(islice(frames, place.num_taken, None)):
        place.num_taken += 1
        yield frame


def _timed(items: Iterable[Frame | np.ndarray | AudioChunk], rate: Fraction, place: Place) -> Items:
    for index, item in enumerate(place.rest_of(items), place.num_taken):
        yield Frame(item, index / rate) if isinstance(item, np.ndarray) else item

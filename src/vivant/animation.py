"""From a driving clip to finished pictures: find the driver's face, push it through a Session, paste back.

    clip -> output rate -> follow the face -> window -> Session -> paste into the whole picture -> uint8
    frames

Memory does not grow with the length of the clip. Nothing here knows a family or writes a file; the command
line and the web app loop over an Animation and do the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vivant.engine import Engine, Portrait, Voice
from vivant.errors import InputError
from vivant.face.missing import MissingPolicy, MissingReport, MissingSpan
from vivant.face.paste import paste_back as paste
from vivant.face.points import eye_openness, lip_openness
from vivant.face.track import FaceTracker
from vivant.face.window import DrivingWindow
from vivant.media.audio import read_audio
from vivant.media.overlap import prefetch
from vivant.media.reader import read_clip
from vivant.media.resample import resample, tidy_rate
from vivant.media.types import AudioChunk, Frame
from vivant.session import Session, Timing

DrivingClip: TypeAlias = str | Path | Iterable[Frame | np.ndarray | AudioChunk]
"""A file or folder that `read_clip` opens, or frames (Frame, or uint8 (H, W, 3)) or sound one after another."""

DEFAULT_FRAME_RATE = Fraction(25)
"""For frames without times."""

Items: TypeAlias = Generator[Frame | AudioChunk | Any, None, None]
"""Frames, sound, or the family's Motion."""

_Shown = Literal["drawn", "held", "rest"]


@dataclass(frozen=True)
class AnimationReport:
    """What happened so far."""

    num_frames: int
    """Frames yielded."""
    without_face: tuple[MissingSpan, ...]
    """Runs of driving frames in which no face was seen."""
    engine: Timing
    """Counters of the session."""
    face_seconds: float
    """Wall time spent on finding the driver's face."""
    paste_seconds: float
    """Wall time spent on converting and pasting back."""

    @property
    def num_without_face(self) -> int:
        return sum(span.num_frames for span in self.without_face)


class Animation:
    """An iterator of finished frames, uint8 RGB (H, W, 3). Made by `animate`; close it when leaving early."""

    frame_rate: Fraction | None
    """Of the frames that come out; None for sound and for frames that came without a rate."""
    frame_size: tuple[int, int]
    """Height and width of the frames."""
    num_frames_estimate: int | None
    """How many frames to expect, for progress bars."""

    def __init__(
        self,
        session: Session,
        portrait: Portrait,
        frames: Items,
        *,
        follow: _Follower | None,
        missing: MissingReport,
        pasted: bool,
    ) -> None:
        self._session = session
        self._portrait = portrait
        self._pasted = pasted
        self._follow = follow
        self._missing = missing
        self._num_frames = 0
        self._paste_seconds = 0.0
        self._last: np.ndarray | None = None
        self.frame_rate = None
        self.num_frames_estimate = None
        size = session.engine.frame_size(portrait)
        self.frame_size = size
        if pasted and portrait.framing is not None:
            self.frame_size = portrait.framing.image.shape[0], portrait.framing.image.shape[1]
        self._run = self._frames(frames)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and let go of the clip and the session. Safe to call twice."""
        self._run.close()
        self._session.close()

    @property
    def report(self) -> AnimationReport:
        return AnimationReport(
            num_frames=self._num_frames,
            without_face=self._missing.spans,
            engine=self._session.timing,
            face_seconds=self._follow.seconds if self._follow is not None else 0.0,
            paste_seconds=self._paste_seconds,
        )

    def _frames(self, frames: Items) -> Generator[np.ndarray, None, None]:
        """Frames in order. What needs no drawing waits its turn behind what the engine still owes."""
        shown: deque[_Shown] = deque()
        drawn: deque[Tensor] = deque()
        with closing(frames):
            for item in frames:
                kinds, new = self._take(item)
                shown += kinds
                drawn += new
                yield from self._due(shown, drawn)
        drawn += self._session.flush()
        yield from self._due(shown, drawn)

    def _take(self, item: Frame | AudioChunk | Any) -> tuple[list[_Shown], list[Tensor]]:
        """Push one item; say how the frames that it asks for are to be shown."""
        session = self._session
        if not isinstance(item, (Frame, AudioChunk)):
            return ["drawn"] * len(item), session.push_motion(item)
        if isinstance(item, AudioChunk) or self._follow is None:
            before = session.timing.frames_in
            frames = session.push(item)
            return ["drawn"] * (session.timing.frames_in - before), frames
        seen = self._follow.update(item.image)
        self._missing.record(item.time, found=seen is not None)
        if seen is None:
            return ["rest" if self._missing.policy == "source" else "held"], []
        return ["drawn"], session.push(
            seen.image, window=seen.window, openness=seen.openness, restart=seen.restart
        )

    def _due(self, shown: deque[_Shown], drawn: deque[Tensor]) -> Iterator[np.ndarray]:
        while shown and (shown[0] != "drawn" or drawn):
            kind = shown.popleft()
            begin = perf_counter()
            if kind == "drawn":
                self._last = self._finished(drawn.popleft())
            elif kind == "rest" or self._last is None:
                self._last = self._at_rest()
            self._paste_seconds += perf_counter() - begin
            self._num_frames += 1
            yield self._last

    def _finished(self, frame: Tensor) -> np.ndarray:
        """A drawn frame (3, H, W) as the picture to show."""
        pixels = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
        framing = self._portrait.framing
        if not self._pasted or framing is None:
            return pixels
        return paste(framing.image, pixels, framing.crop)

    def _at_rest(self) -> np.ndarray:
        """The portrait as it was given."""
        if self._pasted and self._portrait.framing is not None:
            return self._portrait.framing.image
        reference = self._portrait.reference
        assert reference is not None, "a portrait that is made by `prepare` has its reference"
        size = self.frame_size
        whole = torch.nn.functional.interpolate(reference[None], size, mode="bilinear", antialias=True)
        return (whole[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


def animate(
    engine: Engine,
    portrait: Portrait,
    driving: DrivingClip,
    *,
    options: Any = None,
    seed: int = 0,
    frame_rate: Fraction | float | None = None,
    on_missing: MissingPolicy = "hold",
    driving_face: str | None = "largest",
    paste_back: bool | None = None,
    allow_truncated: bool = False,
    voice: Voice | None = None,
) -> Animation:
    """Animate a portrait with a clip: an iterator of uint8 RGB frames, with a report.

    Args:
        driving: a file or folder, or frames one after another, or sound for a family that is driven by it.
        options: the family's Options; None for the defaults.
        frame_rate: of the output, in frames per second. None: that of the driving clip; frames that are not
            from a file are then taken one by one as they come.
        on_missing: frames without the driver's face "hold" the last picture, show the "source", or "fail".
        driving_face: which face drives ("largest", a number from 0, "x,y"); None where the driving frames
            are aligned crops already, which saves finding it.
        paste_back: give the whole picture rather than the face's square. None: where the portrait was cut
            from a picture.
        allow_truncated: use what can be read of a damaged file.
        voice: what speaks (`vivant.presets.load_voice`), where `driving` is a file with sound to be spoken.

    Raises InputError or FaceError, at once or while iterating.
    """
    if paste_back and portrait.framing is None:
        raise InputError("there is no picture to paste into: the portrait was prepared with face=None")
    rate = Fraction(frame_rate).limit_denominator(1001) if frame_rate is not None else None
    if voice is not None and isinstance(driving, (str, Path)):
        frames, rate, estimate = _spoken(driving, rate, voice, seed)
    else:
        frames, rate, estimate = _opened(driving, rate, allow_truncated)
    by_sound = engine.stream.driving == "audio"
    animation = Animation(
        Session(engine, portrait, options, seed, float(rate) if rate is not None else None),
        portrait,
        frames,
        follow=None
        if by_sound or voice is not None or driving_face is None
        else _Follower(engine.crop_size_px, driving_face),
        missing=MissingReport(
            on_missing, name=str(driving) if isinstance(driving, (str, Path)) else "driving"
        ),
        pasted=portrait.framing is not None if paste_back is None else paste_back,
    )
    animation.frame_rate = rate
    animation.num_frames_estimate = estimate
    return animation


@dataclass(frozen=True)
class _Seen:
    """The driver's face in one frame."""

    image: np.ndarray
    """uint8 (size, size, 3)."""
    window: Any
    restart: bool
    openness: tuple[float, float, float]


class _Follower:
    """The face of the driving clip, cut out frame by frame."""

    def __init__(self, size_px: int, face: str) -> None:
        self.seconds = 0.0
        self._tracker = FaceTracker(face)
        self._window = DrivingWindow(size_px)
        self._started = False

    def update(self, image: np.ndarray) -> _Seen | None:
        begin = perf_counter()
        tracked = self._tracker.update(image)
        seen = None
        if tracked is not None:
            view = self._window.update(tracked.landmarks, cut=tracked.cut)
            seen = _Seen(
                view.crop.apply(image),
                view.to_reference,
                view.restarted and self._started,
                (*eye_openness(tracked.landmarks), lip_openness(tracked.landmarks)),
            )
            self._started = True
        self.seconds += perf_counter() - begin
        return seen


def _opened(
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


def _spoken(
    driving: str | Path, rate: Fraction | None, voice: Voice, seed: int
) -> tuple[Items, Fraction, int | None]:
    """The Motion that a file's sound asks for, as `_opened` gives frames."""
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


def _prefetched(frames: Iterator[Frame]) -> Items:
    yield from prefetch(frames)


def _timed(items: Iterable[Frame | np.ndarray | AudioChunk], rate: Fraction) -> Items:
    for index, item in enumerate(items):
        yield Frame(item, index / rate) if isinstance(item, np.ndarray) else item

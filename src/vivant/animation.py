"""From a driving clip to finished pictures: find the driver's face, push it through a Session, paste back.

    clip -> output rate -> follow the face -> window -> Session -> paste into the whole picture -> uint8
    frames

Memory does not grow with the length of the clip. Nothing here knows a family or writes a file; the command
line and the web app loop over an Animation and do the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from vivant.bookmark import Bookmark
from vivant.drivers import (
    DEFAULT_FRAME_RATE,
    DrivingClip,
    Follower,
    Items,
    Refers,
    Watched,
    checked_reference,
    opened,
    referring,
    replayed_motion,
    spoken,
    watched,
)
from vivant.engine import Engine, Portrait, Voice
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.missing import MissingPolicy, MissingReport, MissingSpan
from vivant.face.paste import paste_back as paste
from vivant.media.types import AudioChunk, Frame
from vivant.motion_file import SUFFIX, Entry, Mark
from vivant.place import FollowerState, Place
from vivant.session import Session, Timing

_Shown = Literal["drawn", "held", "rest"]


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where an animation stands between two items, beyond its session and its driving."""

    num_frames: int
    shown: tuple[_Shown, ...]
    """Frames that wait for what the engine still owes."""
    last: np.ndarray | None
    """The last frame, for those that hold it."""
    num_watched: int
    without_face: tuple[MissingSpan, ...]
    paste_seconds: float


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
        follow: Follower | None,
        missing: MissingReport,
        pasted: bool,
        place: Place | None = None,
        stood: _Standing | None = None,
    ) -> None:
        self._session = session
        self._portrait = portrait
        self._pasted = pasted
        self._follow = follow
        self._missing = missing
        self._place = place or Place()
        self._num_frames = stood.num_frames if stood else 0
        self._paste_seconds = stood.paste_seconds if stood else 0.0
        self._last = stood.last if stood else None
        self._shown: deque[_Shown] = deque(stood.shown if stood else ())
        self._drawn: deque[Tensor] = deque()
        self._ended = False
        self._rate = DEFAULT_FRAME_RATE
        self.frame_rate = None
        self.num_frames_estimate = None
        self.frame_size = self._size()
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

    def bookmark(self) -> Bookmark | None:
        """Everything needed to go on after the last frame that was taken: `animate(..., resume=...)`.

        None where that is not possible just now (frames are being looked ahead for, or several are due at once); ask
        again after the next frame.
        """
        shown = self._shown
        if self._drawn or (shown and shown[0] != "drawn") or not self._place.is_settled or self._ended:
            return None
        mark = self._session.bookmark()
        self._place.keep_in(mark)
        standing = _Standing(
            num_frames=self._num_frames,
            shown=tuple(shown),
            last=self._last,
            num_watched=self._missing.num_frames,
            without_face=self._missing.spans,
            paste_seconds=self._paste_seconds,
        )
        mark.keep("standing", standing)
        return mark

    @property
    def report(self) -> AnimationReport:
        return AnimationReport(
            num_frames=self._num_frames,
            without_face=self._missing.spans,
            engine=self._session.timing,
            face_seconds=self._follow.seconds if self._follow is not None else 0.0,
            paste_seconds=self._paste_seconds,
        )

    def push(self, item: Any) -> Iterator[np.ndarray]:
        """One more item (see `vivant.drivers`) by hand, where nothing can be iterated: the frames that are due.

        They come in order: what needs no drawing waits its turn behind what the engine still owes.
        """
        kinds, new = self._take(item)
        self._shown += kinds
        self._drawn += new
        yield from self._due()

    def show_in(self, framing: Framing | None) -> None:
        """Paste what comes into another size of the picture; None shows the face's square alone."""
        self._portrait = replace(self._portrait, framing=framing)
        self._pasted = framing is not None
        self.frame_size = self._size()

    def _size(self) -> tuple[int, int]:
        framing = self._portrait.framing
        if self._pasted and framing is not None:
            return framing.image.shape[0], framing.image.shape[1]
        return self._session.engine.frame_size(self._portrait)

    def _frames(self, frames: Items) -> Generator[np.ndarray, None, None]:
        with closing(frames):
            for item in frames:
                yield from self.push(item)
        self._ended = True
        self._drawn += self._session.flush()
        yield from self._due()

    def _take(self, item: Frame | AudioChunk | Any) -> tuple[list[_Shown], list[Tensor]]:
        """Push one item; say how the frames that it asks for are to be shown."""
        session = self._session
        if isinstance(item, Refers):
            seen = item.seen
            session.refer(session.see(seen.image, window=seen.window, openness=seen.openness))
            return [], []
        if isinstance(item, Watched):
            self._missing.record(item.time, found=item.seen is not None)
            if item.seen is None:
                return self._without_face(), []
            seen = item.seen
            return ["drawn"], session.push(
                seen.image, window=seen.window, openness=seen.openness, restart=seen.restart
            )
        if isinstance(item, Entry):
            return self._replay(item)
        if not isinstance(item, (Frame, AudioChunk)):
            return ["drawn"] * len(item), session.push_motion(item)
        before = session.timing.frames_in
        frames = session.push(item)
        return ["drawn"] * (session.timing.frames_in - before), frames

    def _replay(self, entry: Entry) -> tuple[list[_Shown], list[Tensor]]:
        """One row of a motion file."""
        if entry.mark is Mark.REFERS:
            self._session.refer(entry.motion)
            return [], []
        time = Fraction(self._missing.num_frames) / self._rate
        self._missing.record(time, found=entry.motion is not None)
        if entry.motion is None:
            return self._without_face(), []
        return ["drawn"], self._session.push_motion(entry.motion, restart=entry.mark is Mark.RESTARTS)

    def _without_face(self) -> list[_Shown]:
        return ["rest" if self._missing.policy == "source" else "held"]

    def _due(self) -> Iterator[np.ndarray]:
        shown, drawn = self._shown, self._drawn
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
    reference_frame: int | Literal["auto"] | None = None,
    resume: Bookmark | None = None,
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
        reference_frame: which driving frame is neutral, so that relative motion is relative to it: a number from 0, or
            "auto", the calmest face of the first two seconds. None: "auto" for files, else the first.
        voice: what speaks (`vivant.presets.load_voice`), where `driving` is a file with sound to be spoken.
        resume: where an animation of the same arguments stood (`Animation.bookmark`): this one goes on from there.

    Raises InputError or FaceError, at once or while iterating.
    """
    if paste_back and portrait.framing is None:
        raise InputError("there is no picture to paste into: the portrait was prepared with face=None")
    rate = Fraction(frame_rate).limit_denominator(1001) if frame_rate is not None else None
    place = Place.in_mark(resume, voice)
    items, rate, estimate, follow = _driven(
        engine, driving, rate, voice, seed, driving_face, reference_frame, allow_truncated, place, resume
    )
    stood = None if resume is None else resume.part("standing", _Standing)
    fresh = Session(engine, portrait, options, seed, float(rate) if rate is not None else None)
    animation = Animation(
        fresh if resume is None else Session.restore(resume, engine, portrait),
        portrait,
        items,
        follow=follow,
        missing=_missing_report(on_missing, driving, stood),
        pasted=portrait.framing is not None if paste_back is None else paste_back,
        place=place,
        stood=stood,
    )
    animation.frame_rate = rate
    animation._rate = rate or DEFAULT_FRAME_RATE
    animation.num_frames_estimate = estimate
    return animation


def _missing_report(policy: MissingPolicy, driving: DrivingClip, stood: _Standing | None) -> MissingReport:
    name = str(driving) if isinstance(driving, (str, Path)) else "driving"
    if stood is None:
        return MissingReport(policy, name=name)
    return MissingReport(policy, name=name, num_frames=stood.num_watched, spans=stood.without_face)


def _driven(
    engine: Engine,
    driving: DrivingClip,
    rate: Fraction | None,
    voice: Voice | None,
    seed: int,
    driving_face: str | None,
    reference_frame: int | Literal["auto"] | None,
    allow_truncated: bool,
    place: Place,
    resume: Bookmark | None,
) -> tuple[Items, Fraction | None, int | None, Follower | None]:
    """What drives, as items; its rate; how many frames to expect; who follows the face in it."""
    if isinstance(driving, (str, Path)):
        if voice is not None:
            return *spoken(driving, rate, voice, seed, place), None
        if Path(driving).suffix.lower() == SUFFIX:
            return *replayed_motion(driving, rate, engine, place), None
        reference_frame = "auto" if reference_frame is None else reference_frame
    frames, rate, estimate = opened(driving, rate, allow_truncated, place)
    if engine.stream.driving == "audio" or driving_face is None:
        if reference_frame not in (None, "auto", 0):
            raise InputError(
                f"--reference-frame {reference_frame} needs a clip in which a face is looked for."
            )
        return frames, rate, estimate, None
    follow = Follower(engine.crop_size_px, driving_face)
    place.follow = follow
    items: Items = watched(frames, follow)
    if resume is not None:
        follow.state = resume.part("follower", FollowerState)
    elif reference_frame:
        items = referring(items, checked_reference(reference_frame), rate or DEFAULT_FRAME_RATE, place)
    return items, rate, estimate, follow

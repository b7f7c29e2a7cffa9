"""From a driving clip to finished pictures: find the driver's face, push it through a Session, paste back.

    driving -> output rate -> follow the face -> window --> Session --> paste into the whole picture -> uint8
    source: a picture, or video -> output rate -> follow -> crop -^         frames

Memory does not grow with the length of the clips. Nothing here knows a family or writes a file; the command
line and the web app loop over an Animation and do the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from vivant.bookmark import Bookmark
from vivant.drivers import DEFAULT_FRAME_RATE, Driven, DrivingClip, How, Reference, driven
from vivant.engine import Engine, Portrait, Voice
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.missing import MissingPolicy, MissingReport, MissingSpan
from vivant.face.paste import paste_back as paste
from vivant.performance import Kind, Performance, Shown
from vivant.session import Session, Timing
from vivant.settings import Length
from vivant.sources import Scene, Source, SourcePicture, SourceVideo


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where an animation stands between two items, beyond its session and its driving."""

    num_frames: int
    waiting: tuple[Kind, ...]
    """Frames that wait for what the engine still owes."""
    pixels: np.ndarray | None
    """The last drawn face, for frames that hold it."""
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
    without_source_face: tuple[MissingSpan, ...]
    """Runs of frames of a source video in which nobody was to be animated; they are left as they are."""
    engine: Timing
    """Counters of the session."""
    face_seconds: float
    """Wall time spent on finding faces."""
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
        performance: Performance,
        source: Source,
        *,
        pasted: bool,
        frame_rate: Fraction | None = None,
        length: Length = "driving",
    ) -> None:
        self.frame_rate = frame_rate
        self.num_frames_estimate = None
        self._performance = performance
        self._source = source
        self._length = length
        self._num_frames = 0
        self._paste_seconds = 0.0
        self._pixels: list[np.ndarray | None] = [None for _ in performance.sessions]
        self._absent = MissingReport("source", name="the source")
        self._show(pasted=pasted)
        self._run = self._frames()

    @classmethod
    def by_hand(
        cls, session: Session, portrait: Portrait, missing: MissingReport, *, pasted: bool
    ) -> Animation:
        """One that is pushed, where nothing can be iterated."""
        nothing = Driven((_ for _ in ()), None, None)
        return cls(Performance([session], nothing, missing), SourcePicture(portrait), pasted=pasted)

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
        """Stop, and let go of the clips and the session. Safe to call twice."""
        self._run.close()
        self._performance.close()

    def bookmark(self) -> Bookmark | None:
        """Everything needed to go on after the last frame that was taken: `animate(..., resume=...)`.

        None where that is not possible just now (frames are being looked ahead for, or several are due at once); ask
        again after the next frame. Never possible where a video is animated.
        """
        waiting = self._performance.waiting
        if self._source.moves or waiting is None:
            return None
        mark = self._performance.sessions[0].bookmark()
        self._performance.place.keep_in(mark)
        standing = _Standing(
            num_frames=self._num_frames,
            waiting=waiting,
            pixels=self._pixels[0],
            num_watched=self._performance.missing.num_frames,
            without_face=self._performance.missing.spans,
            paste_seconds=self._paste_seconds,
        )
        mark.keep("standing", standing)
        return mark

    @property
    def report(self) -> AnimationReport:
        return AnimationReport(
            num_frames=self._num_frames,
            without_face=self._performance.missing.spans,
            without_source_face=self._absent.spans,
            engine=self._performance.timing,
            face_seconds=self._performance.face_seconds + self._source.seconds,
            paste_seconds=self._paste_seconds,
        )

    def push(self, item: Any) -> Iterator[np.ndarray]:
        """One more item (see `vivant.drivers`) by hand: the frames that are due, in order."""
        assert isinstance(self._source, SourcePicture), "a video has its own time"
        self._performance.push(item)
        while (shown := self._performance.due()) is not None:
            yield self._finished(self._source.scene, shown)

    def show_in(self, framing: Framing | None) -> None:
        """Paste what comes into another size of the picture; None shows the face's square alone."""
        assert isinstance(self._source, SourcePicture), "a video has its own size"
        self._source = SourcePicture(replace(self._source.portrait, framing=framing))
        self._show(pasted=framing is not None)

    def _show(self, *, pasted: bool) -> None:
        self._pasted = pasted and self._source.frame_size is not None
        whole = self._source.frame_size if pasted else None
        self.frame_size = whole or self._performance.frame_size

    def _stand(self, stood: _Standing | None) -> None:
        """Go on from there; session and driving have done so."""
        if stood is None:
            return
        self._num_frames, self._paste_seconds = stood.num_frames, stood.paste_seconds
        self._pixels = [stood.pixels]
        self._performance.wait_for(stood.waiting)

    def _frames(self) -> Generator[np.ndarray, None, None]:
        """Frames in order, one per scene, until what `length` names has ended."""
        rate = self.frame_rate or DEFAULT_FRAME_RATE
        with closing(self._source.scenes(rate, hold=self._length == "driving")) as scenes:
            for scene in scenes:
                shown = self._performance.next(scene.faces if self._source.moves else None)
                if shown is None and self._length == "source":
                    shown = self._performance.again()
                if shown is None:
                    break
                if self._source.moves:
                    found = any(face is not None for face in scene.faces)
                    self._absent.record(self._num_frames / rate, found=found)
                yield self._finished(scene, shown)

    def _finished(self, scene: Scene, shown: list[Shown]) -> np.ndarray:
        """The picture to show."""
        begin = perf_counter()
        for index, face in enumerate(shown):
            if isinstance(face, Tensor):
                pixels = (face.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
                self._pixels[index] = pixels.contiguous().cpu().numpy()
            elif face == "rest":
                self._pixels[index] = None
        picture = self._whole(scene) if self._pasted else self._square(scene)
        self._paste_seconds += perf_counter() - begin
        self._num_frames += 1
        return picture

    def _square(self, scene: Scene) -> np.ndarray:
        drawn = self._pixels[0]
        return drawn if drawn is not None else self._source.at_rest(scene, self.frame_size)

    def _whole(self, scene: Scene) -> np.ndarray:
        picture = scene.image
        assert picture is not None, "nothing is pasted where there is no picture"
        for drawn, framing in zip(self._pixels, scene.faces, strict=True):
            if drawn is not None and framing is not None:
                picture = paste(picture, drawn, framing.crop)
        return picture


def animate(
    engine: Engine,
    portrait: Portrait | SourceVideo,
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
    reference_frame: Reference | None = None,
    length: Length = "shortest",
    resume: Bookmark | None = None,
) -> Animation:
    """Animate a portrait with a clip: an iterator of uint8 RGB frames, with a report.

    Args:
        portrait: who is animated; a SourceVideo for the person in a video.
        driving: a file or folder, or frames one after another, or sound for a family that is driven by it. One
            picture gives one frame, or as many as a source video has.
        options: the family's Options; None for the defaults.
        frame_rate: of the output, in frames per second. None: a source video's, else the driving clip's; frames
            that are not from a file are then taken one by one as they come.
        on_missing: frames without the driver's face "hold" the last picture (of a source video: the last motion),
            show the "source", or "fail".
        driving_face: which face drives ("largest", a number from 0, "x,y"); None where the driving frames
            are aligned crops already, which saves finding it.
        paste_back: give the whole picture rather than the face's square. None: where there is one.
        allow_truncated: use what can be read of a damaged file.
        voice: what speaks (`vivant.presets.load_voice`), where `driving` is sound to be spoken.
        reference_frame: what is neutral for relative motion: the number of a driving frame, "auto" (the calmest face
            of the first two seconds), or a picture of the driver. None: "auto" for files, else the first.
        length: until when a source video is animated: "shortest" until one of both ends; "driving" holds the last
            frame of a source that ends first; "source" the last motion of a driver that ends first.
        resume: where an animation of the same arguments stood (`Animation.bookmark`): this one goes on from there.

    Raises InputError or FaceError, at once or while iterating.
    """
    source = portrait if isinstance(portrait, SourceVideo) else SourcePicture(portrait)
    if paste_back and source.frame_size is None:
        raise InputError("there is no picture to paste into: the portrait was prepared with face=None")
    rate = _wanted_rate(frame_rate, source, voice)
    made = driven(
        engine, driving, How(rate, driving_face, reference_frame, allow_truncated, voice, seed, resume)
    )
    hertz = None if made.rate is None else float(made.rate)
    sessions = [
        Session(engine, who, options, seed, hertz) if resume is None else Session.restore(resume, engine, who)
        for who in source.portraits()
    ]
    missing, stood = _begun(on_missing, driving, resume)
    performance = Performance(sessions, made, missing, lasts=source.moves and made.is_still)
    pasted, length = paste_back is not False, length if source.moves else "driving"
    animation = Animation(performance, source, pasted=pasted, frame_rate=made.rate, length=length)
    animation._stand(stood)
    animation.num_frames_estimate = _estimate(source, made, length)
    return animation


def _wanted_rate(given: Fraction | float | None, source: Source, voice: Voice | None) -> Fraction | None:
    """None: what drives decides."""
    if given is not None:
        return Fraction(given).limit_denominator(1001)
    return source.frame_rate if isinstance(source, SourceVideo) and voice is None else None


def _begun(
    policy: MissingPolicy, driving: DrivingClip, resume: Bookmark | None
) -> tuple[MissingReport, _Standing | None]:
    """The report of missing faces, from the start or where one stood; and where that is."""
    name = str(driving) if isinstance(driving, (str, Path)) else "driving"
    if resume is None:
        return MissingReport(policy, name=name), None
    stood = resume.part("standing", _Standing)
    return MissingReport(policy, name=name, num_frames=stood.num_watched, spans=stood.without_face), stood


def _estimate(source: Source, driving: Driven, length: Length) -> int | None:
    """How many frames to expect."""
    if not isinstance(source, SourceVideo) or driving.rate is None:
        return driving.num_frames
    duration = source.clip.duration
    frames = None if duration is None else round(duration * driving.rate)
    if length == "source" or driving.is_still:
        return frames
    both = [count for count in (frames, driving.num_frames) if count is not None]
    return driving.num_frames if length == "driving" else min(both, default=None)

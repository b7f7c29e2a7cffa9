"""From a driving clip to finished pictures: find the driver's face, push it through a Session, paste back.

    driving -> output rate -> follow the face -> window --> Session --> paste into the whole picture -> uint8
    source: a picture, or video -> output rate -> follow -> crop -^         frames

Memory does not grow with the length of the clips. Nothing here knows a family or writes a file; the command
line and the web app loop over an Animation and do the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vivant.bookmark import Bookmark
from vivant.casting import Drivers, cast
from vivant.drivers import DEFAULT_FRAME_RATE, Driven, How, Reference
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.missing import MissingPolicy, MissingReport, MissingSpan
from vivant.face.paste import Patch, paste_faces
from vivant.media.resample import num_resampled
from vivant.ops.fetching import as_pixels
from vivant.performance import Performance, Shown
from vivant.scenes import Scene, Scenes, Standing
from vivant.session import Session, Timing
from vivant.settings import Length
from vivant.sources import Source, SourcePicture, SourceVideo
from vivant.voice import Voice


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where an animation stands between two items, beyond its performances."""

    num_frames: int
    pixels: tuple[np.ndarray | None, ...]
    """The last drawn faces, for frames that hold them."""
    without_source_face: tuple[MissingSpan, ...]
    source: Standing | None
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

    def __init__(
        self,
        cast: Sequence[Performance],
        source: Source,
        *,
        pasted: bool,
        frame_rate: Fraction | None = None,
        length: Length = "driving",
    ) -> None:
        """cast: one per driver; together they move all faces of the source."""
        self.frame_rate = frame_rate
        self._cast = tuple(cast)
        self._source = source
        self._length = length
        self._num_frames = 0
        self._paste_seconds = 0.0
        self._pixels: list[np.ndarray | None] = [None for performance in cast for _ in performance.faces]
        self._absent = MissingReport("source", name="the source")
        self._stood: Standing | None = None
        self._scenes: Scenes | None = None
        self._show(pasted=pasted)
        self._run = self._frames()

    @classmethod
    def by_hand(
        cls,
        session: Session,
        portrait: Portrait,
        missing: MissingReport,
        *,
        pasted: bool,
        draws_apart: bool = False,
    ) -> Animation:
        """One that is pushed, where nothing can be iterated. draws_apart: see `take`."""
        nothing = Driven((_ for _ in ()), None, None)
        performance = Performance([session], nothing, missing, draws_apart=draws_apart)
        return cls([performance], SourcePicture([portrait]), pasted=pasted)

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
        for performance in self._cast:
            performance.close()

    def bookmark(self) -> Bookmark | None:
        """Everything needed to go on after the last frame that was taken: `animate(..., resume=...)`.

        None where that is not possible just now (frames are being looked ahead for, or several are due at once); ask
        again after the next frame.
        """
        scenes = self._scenes
        if scenes is None:
            return None
        if not all(performance.is_settled for performance in self._cast):
            for performance in self._cast:
                performance.settle()
            return None
        mark = Bookmark()
        for number, performance in enumerate(self._cast):
            mark.keep_mark(f"driver{number}", performance.bookmark())
        standing = _Standing(
            num_frames=self._num_frames,
            pixels=tuple(self._pixels),
            without_source_face=self._absent.spans,
            source=scenes.standing(),
            paste_seconds=self._paste_seconds,
        )
        mark.keep("standing", standing)
        return mark

    @property
    def num_frames_estimate(self) -> int | None:
        """How many frames to expect, for progress bars."""
        return self.expected_frames()

    def expected_frames(self, num_spoken: int | None = None) -> int | None:
        """The same, where somebody has counted the frames of the longest speech; None where nothing tells."""
        counts = [part.num_frames for part in self._cast if not part.lasts]
        driving = max((count for count in (*counts, num_spoken) if count is not None), default=None)
        source, rate = self._source, self.frame_rate
        if not isinstance(source, SourceVideo) or rate is None:
            return driving
        duration = source.clip.duration
        frames = None if duration is None else num_resampled(rate, duration)
        if self._length == "source" or driving is None:
            return frames
        return driving if self._length == "driving" or frames is None else min(frames, driving)

    @property
    def report(self) -> AnimationReport:
        first, *others = (performance.timing for performance in self._cast)
        return AnimationReport(
            num_frames=self._num_frames,
            without_face=tuple(span for performance in self._cast for span in performance.missing.spans),
            without_source_face=self._absent.spans,
            engine=replace(first, seconds=first.seconds + sum(timing.seconds for timing in others)),
            face_seconds=sum(performance.face_seconds for performance in self._cast)
            + (0.0 if self._scenes is None else self._scenes.seconds),
            paste_seconds=self._paste_seconds,
        )

    def push(self, item: Any) -> Iterator[np.ndarray]:
        """One more item (see `vivant.drivers`) by hand: the frames that are due, in order."""
        for shown in self.take(item):
            yield self.finish(shown)

    def take(self, item: Any) -> list[list[Shown]]:
        """One more item by hand: what each face shows in the frames that are due, for `finish`.

        Where it draws apart, what is to be drawn are calls; make them, or let `finish` do so.
        """
        (performance,) = self._cast
        performance.push(item)
        return self._due(performance)

    def end(self) -> list[list[Shown]]:
        """Nothing more comes by hand: the frames that are still owed, as `take` gives them."""
        (performance,) = self._cast
        performance.end()
        return self._due(performance)

    @staticmethod
    def _due(performance: Performance) -> list[list[Shown]]:
        due = []
        while (shown := performance.due()) is not None:
            due.append(shown)
        return due

    def finish(self, shown: Sequence[Shown]) -> np.ndarray:
        """The picture of the next frame of `take`, in order."""
        assert isinstance(self._source, SourcePicture), "a video has its own time"
        return self._finished(self._source.scene, shown)

    def show_in(self, framing: Framing | None) -> None:
        """Paste what comes into another size of the picture; None shows the face's square alone."""
        assert isinstance(self._source, SourcePicture), "a video has its own size"
        self._source = self._source.shown_in(framing)
        self._show(pasted=framing is not None)

    def _show(self, *, pasted: bool) -> None:
        whole = self._source.frame_size if pasted else None
        self._pasted = whole is not None
        self.frame_size = whole or self._cast[0].frame_size

    def _stand(self, stood: _Standing) -> None:
        """Go on from there; the performances do so already."""
        self._num_frames, self._paste_seconds = stood.num_frames, stood.paste_seconds
        self._pixels, self._stood = list(stood.pixels), stood.source
        absent = self._absent
        num_watched = stood.num_frames if self._source.moves else 0
        self._absent = MissingReport(
            absent.policy, name=absent.name, num_frames=num_watched, spans=stood.without_source_face
        )

    def _frames(self) -> Generator[np.ndarray, None, None]:
        """Frames in order, one per scene, until what `length` names has ended."""
        rate = self.frame_rate or DEFAULT_FRAME_RATE
        # Pictures drive as long as the source lasts, and so never outlast it.
        hold = self._length == "driving" and not all(performance.lasts for performance in self._cast)
        self._scenes = self._source.scenes(rate, hold=hold, after=self._stood)
        with closing(self._scenes) as scenes:
            if self._source.moves and scenes.scene is not None:
                for performance in self._cast:
                    performance.go_on_in(scenes.scene.last)
            for scene in scenes:
                shown = self._shown(scene)
                if shown is None:
                    break
                if self._source.moves:
                    found = any(face is not None for face in scene.faces)
                    self._absent.record(self._num_frames / rate, found=found)
                yield self._finished(scene, shown)

    def _shown(self, scene: Scene) -> list[Shown] | None:
        """What each face shows; None at the end: of all drivers, or where a video ends, of that."""
        people = scene.faces if self._source.moves else None
        parts = [performance.next(people) for performance in self._cast]
        ended = [
            part is None for performance, part in zip(self._cast, parts, strict=True) if not performance.lasts
        ]
        if ended and all(ended) and self._length != "source":
            return None
        shown: list[Shown] = ["held" for _ in scene.faces]
        for performance, part in zip(self._cast, parts, strict=True):
            for face, what in zip(performance.faces, part or performance.again(), strict=True):
                shown[face] = what
        return shown

    def _finished(self, scene: Scene, shown: Sequence[Shown]) -> np.ndarray:
        """The picture to show."""
        begin = perf_counter()
        for index, face in enumerate(shown):
            if not isinstance(face, str):
                drawn = face if isinstance(face, Tensor) else face()
                pixels = drawn if drawn.dtype == torch.uint8 else as_pixels(drawn)
                self._pixels[index] = pixels.cpu().numpy()
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
        assert scene.image is not None, "nothing is pasted where there is no picture"
        patches = [
            Patch(drawn, framing.crop, framing.others)
            for drawn, framing in zip(self._pixels, scene.faces, strict=True)
            if drawn is not None and framing is not None
        ]
        return paste_faces(scene.image, patches) if patches else scene.image


def animate(
    engine: Engine,
    portrait: Portrait | Sequence[Portrait] | SourceVideo,
    driving: Drivers,
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
        portrait: who is animated; several of one picture (`Engine.prepare_faces`), or a SourceVideo.
        driving: a file or folder, or frames one after another, or sound for a family that is driven by it. One
            picture gives one frame, or as many as a source video has. Or a driver per face, by its number.
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
    source = _source(portrait)
    if paste_back and source.frame_size is None:
        raise InputError("there is no picture to paste into: the portrait was prepared with face=None")
    if paste_back is False and len(source.numbers) > 1:
        raise InputError("several faces are shown in their picture only; leave --no-paste-back out")
    rate = _wanted_rate(frame_rate, source, voice)
    how = How(rate, driving_face, reference_frame, allow_truncated, voice, seed, resume)
    made = cast(engine, source, driving, how, options=options, on_missing=on_missing)
    length = length if source.moves else "driving"
    animation = Animation(
        made.performances, source, pasted=paste_back is not False, frame_rate=made.frame_rate, length=length
    )
    if resume is not None:
        animation._stand(resume.part("standing", _Standing))
    return animation


def _source(portrait: Portrait | Sequence[Portrait] | SourceVideo) -> Source:
    if isinstance(portrait, SourceVideo):
        return portrait
    return SourcePicture([portrait] if isinstance(portrait, Portrait) else portrait)


def _wanted_rate(given: Fraction | float | None, source: Source, voice: Voice | None) -> Fraction | None:
    """None: what drives decides."""
    if given is not None:
        return Fraction(given).limit_denominator(1001)
    return source.frame_rate if isinstance(source, SourceVideo) and voice is None else None

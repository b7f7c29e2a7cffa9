"""What is animated in each output frame, one after another: the same picture for ever, or a video's frames with their
people followed. Where a video stands can be kept and gone on from.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from vivant.engine import Engine
from vivant.face.choose import FaceChoice
from vivant.face.crop import Crop, crop_transform
from vivant.face.framing import Framing
from vivant.face.people import PeopleState, PeopleTracker
from vivant.face.points import Landmarks
from vivant.face.track import FaceTracker, TrackerState
from vivant.face.window import SourceWindow
from vivant.media.overlap import prefetch
from vivant.media.resample import resample
from vivant.media.types import Clip


@dataclass(frozen=True)
class Scene:
    """What is animated in one output frame, as it was given."""

    image: np.ndarray | None
    """uint8 RGB (H, W, 3); None where the portrait was given as a crop."""
    faces: tuple[Framing | None, ...]
    """Where each animated face is; None where it is not seen."""
    last: tuple[Framing | None, ...]
    """The same where it was last seen, now or before; None before that."""


@dataclass(frozen=True)
class Sighting:
    """Where somebody was last seen, without the picture."""

    frame: int
    """Number of the frame, at the output rate."""
    crop: Crop
    landmarks: Landmarks
    number: int
    others: tuple[Crop, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a video, and whoever is followed in it, stands after a frame."""

    num_taken: int
    seconds: float
    one: TrackerState | None
    """Of whoever follows: the largest face, or people by number."""
    people: PeopleState | None
    windows: tuple[SourceWindow, ...]
    last: tuple[Sighting | None, ...]


class Scenes(Protocol):
    """An iterator of scenes; close it when leaving early."""

    scene: Scene | None
    """The latest, in this run or in the one that is gone on with."""
    seconds: float
    """Wall time spent on following faces."""

    def __iter__(self) -> Iterator[Scene]: ...
    def __next__(self) -> Scene: ...
    def close(self) -> None: ...
    def standing(self) -> Standing | None:
        """What is needed to go on from here; None where that is nothing."""


class SameScene:
    """Of a picture, for ever."""

    seconds = 0.0

    def __init__(self, scene: Scene) -> None:
        self._only = scene
        self.scene: Scene | None = None

    def __iter__(self) -> Iterator[Scene]:
        return self

    def __next__(self) -> Scene:
        self.scene = self._only
        return self._only

    def close(self) -> None:
        """Nothing is open."""

    def standing(self) -> None:
        """Nothing moves."""


class VideoScenes:
    """Of a video at an output rate; after its end nothing, or the last one for ever."""

    def __init__(self, frames: Generator[np.ndarray, None, None], follow: Followed, *, hold: bool) -> None:
        self.scene: Scene | None = None
        self.seconds = 0.0
        self._frames, self._follow, self._hold = frames, follow, hold
        self._num_taken = 0
        self._seen: list[tuple[int, Framing] | None] = [None] * follow.num_people

    def __iter__(self) -> Iterator[Scene]:
        return self

    def __next__(self) -> Scene:
        image = next(self._frames, None)
        if image is not None:
            begin = perf_counter()
            faces = self._follow.update(image)
            self.seconds += perf_counter() - begin
            self._seen = [
                then if face is None else (self._num_taken, face)
                for face, then in zip(faces, self._seen or [None] * len(faces), strict=True)
            ]
            self._num_taken += 1
            self.scene = Scene(image, faces, self._last)
        elif self.scene is None or not self._hold:
            raise StopIteration
        return self.scene

    def close(self) -> None:
        self._frames.close()

    def standing(self) -> Standing:
        last = tuple(None if seen is None else _sighting(*seen) for seen in self._seen)
        follow = self._follow
        return Standing(
            num_taken=self._num_taken,
            seconds=self.seconds,
            one=follow.one,
            people=follow.people,
            windows=tuple(follow.windows),
            last=last,
        )

    def go_on(self, before: Standing) -> None:
        """Read to there without looking for anybody; on the way, take the pictures that are still needed."""
        now = before.num_taken - 1
        wanted = {now, *(seen.frame for seen in before.last if seen is not None)}
        read = enumerate(islice(self._frames, before.num_taken))
        images = {index: image for index, image in read if index in wanted}
        self._num_taken, self.seconds = before.num_taken, before.seconds
        self._seen = [None if seen is None else (seen.frame, _framing(seen, images)) for seen in before.last]
        self._follow.go_on(before)
        faces = tuple(seen[1] if seen is not None and seen[0] == now else None for seen in self._seen)
        self.scene = Scene(images[now], faces, self._last)

    @property
    def _last(self) -> tuple[Framing | None, ...]:
        return tuple(None if seen is None else seen[1] for seen in self._seen)


class Followed:
    """The chosen people of a clip, framed in each frame; and those around them, who are to be left alone."""

    def __init__(
        self,
        engine: Engine[Any, Any, Any, Any, Any],
        choice: FaceChoice,
        rate_hz: float,
        num_people: int = 0,
    ) -> None:
        """num_people: how many are chosen, where that is known before they are seen."""
        # The largest face may be another one in another shot; whoever is named stays who it was.
        self._one = FaceTracker(choice) if choice.kind == "largest" else None
        self._people = PeopleTracker(choice) if self._one is None else None
        self._spec, self._size_px, self._rate_hz = engine.crop, engine.crop_size_px, rate_hz
        self.num_people = num_people
        self.windows: list[SourceWindow] = []

    @property
    def one(self) -> TrackerState | None:
        return None if self._one is None else self._one.state

    @property
    def people(self) -> PeopleState | None:
        return None if self._people is None else self._people.state

    def go_on(self, before: Standing) -> None:
        """As whoever stood there would."""
        if self._one is not None and before.one is not None:
            self._one.state = before.one
        if self._people is not None and before.people is not None:
            self._people.state = before.people
        self.windows = list(before.windows)

    def update(self, image: np.ndarray) -> tuple[Framing | None, ...]:
        """One per chosen face, None where it is not seen."""
        numbers: tuple[int, ...] = (0,)
        around: list[Crop] = []
        if self._people is not None:
            tracked = self._people.update(image)
            if not tracked:  # they were not seen for the first time yet
                return (None,) * self.num_people
            numbers, around = self._people.numbers, [self._square(face) for face in self._people.others]
        else:
            assert self._one is not None
            tracked = [self._one.update(image)]
        while len(self.windows) < len(tracked):
            spec = self._spec
            self.windows.append(SourceWindow(self._size_px, self._rate_hz, spec.scale, spec.vx, spec.vy))
        crops = [
            None if face is None else window.update(face.landmarks, restart=face.cut)
            for face, window in zip(tracked, self.windows, strict=True)
        ]
        framings: list[Framing | None] = []
        for place, (face, crop) in enumerate(zip(tracked, crops, strict=True)):
            others = [other for index, other in enumerate(crops) if other is not None and index != place]
            if face is None or crop is None:
                framings.append(None)
            else:
                others += around
                framings.append(Framing(image, crop, face.landmarks, numbers[place], tuple(others)))
        return tuple(framings)

    def _square(self, face: Landmarks) -> Crop:
        spec = self._spec
        return crop_transform(face.points, self._size_px, spec.scale, spec.vx, spec.vy)


def frames_at(clip: Clip, rate: Fraction) -> Generator[np.ndarray, None, None]:
    """A clip's pictures at an output rate, read ahead."""
    with closing(prefetch(resample(clip, rate, end=clip.shown_until))) as frames:  # type: ignore[type-var]
        for frame in frames:
            yield frame.image


def _sighting(frame: int, face: Framing) -> Sighting:
    assert face.landmarks is not None, "who is followed has a mesh"
    return Sighting(frame, face.crop, face.landmarks, face.index, face.others)


def _framing(seen: Sighting, images: dict[int, np.ndarray]) -> Framing:
    return Framing(images[seen.frame], seen.crop, seen.landmarks, seen.number, seen.others)

"""Who is animated, one output frame after another: a picture that stays, or a video whose people are followed.

A video is read twice: once until the first face, so that a Portrait can be made, and once from the beginning while
it is animated. Memory does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import torch

from vivant.engine import Engine, Portrait
from vivant.errors import FaceError, InputError
from vivant.face.choose import FaceChoice, parse_face_choice
from vivant.face.crop import Crop, crop_transform
from vivant.face.framing import Framing
from vivant.face.people import PeopleTracker
from vivant.face.points import Landmarks
from vivant.face.track import FaceTracker
from vivant.face.window import SourceWindow
from vivant.media.overlap import prefetch
from vivant.media.reader import read_clip
from vivant.media.resample import resample, tidy_rate


@dataclass(frozen=True)
class Scene:
    """What is animated in one output frame, as it was given."""

    image: np.ndarray | None
    """uint8 RGB (H, W, 3); None where the portrait was given as a crop."""
    faces: tuple[Framing | None, ...]
    """Where each animated face is; None where it is not seen."""


class SourcePicture:
    """Portraits that stay as they are, all of one picture."""

    moves = False
    seconds = 0.0

    def __init__(self, people: Sequence[Portrait]) -> None:
        """Raises InputError where several portraits are not of one picture."""
        self._people = list(people)
        framings = tuple(portrait.framing for portrait in people)
        images = [None if framing is None else framing.image for framing in framings]
        if len(images) > 1 and any(image is None or image is not images[0] for image in images):
            raise InputError("several faces are animated in one picture: prepare them with `prepare_faces`")
        self.scene = Scene(images[0], framings)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Height and width of the whole picture; None where the portrait was given as a crop."""
        image = self.scene.image
        return None if image is None else (image.shape[0], image.shape[1])

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """Of the faces in the picture; None where the portrait was given as a crop."""
        return tuple(None if framing is None else framing.index for framing in self.scene.faces)

    def portraits(self) -> list[Portrait]:
        return self._people

    def shown_in(self, framing: Framing | None) -> SourcePicture:
        """The same in another size of the picture, of one person."""
        return SourcePicture([replace(self._people[0], framing=framing)])

    def scenes(self, rate: Fraction, *, hold: bool) -> Generator[Scene, None, None]:
        """The same scene for ever."""
        while True:
            yield self.scene

    def at_rest(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        """The face's square as it was given, uint8 RGB (*size, 3)."""
        reference = self._people[0].reference
        assert reference is not None, "a portrait that is made by `prepare` has its reference"
        whole = torch.nn.functional.interpolate(reference[None], size, mode="bilinear", antialias=True)
        return (whole[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()


class SourceVideo:
    """A video whose people are animated. `animate` takes it in the place of a Portrait."""

    moves = True

    def __init__(
        self,
        engine: Engine[Any, Any, Any, Any, Any],
        path: str | Path,
        *,
        face: FaceChoice | str = "largest",
        allow_truncated: bool = False,
    ) -> None:
        """face: "largest", "x,y" in pixels, or numbers from 0 in the first frame that shows such faces ("0,2", "all").

        Raises InputError for a family that animates pictures only, FaceError where nobody is ever seen.
        """
        if not engine.takes_source_video:
            raise InputError(
                f"{engine.family} animates pictures, not videos; give a picture instead of {path}."
            )
        self.path = Path(path)
        self.clip = read_clip(path, allow_truncated=allow_truncated)
        self.frame_rate = tidy_rate(self.clip.frame_rate)
        self.seconds = 0.0
        """Wall time spent on following faces."""
        self._choice = parse_face_choice(face) if isinstance(face, str) else face
        self._engine = engine
        self._nobody: tuple[None, ...] = ()
        self._first = self._first_scene()
        self._nobody = (None,) * len(self._first.faces)
        self._crop: Crop | None = None

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.clip.height, self.clip.width

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """Of the faces in the first frame that shows them."""
        return tuple(None if face is None else face.index for face in self._first.faces)

    def portraits(self) -> list[Portrait]:
        """The people as they are first seen."""
        return [self._engine.prepare_framed([face]) for face in self._first.faces if face is not None]

    def scenes(self, rate: Fraction, *, hold: bool) -> Generator[Scene, None, None]:
        """The video at an output rate, its people followed; after its end nothing, or the last frame for ever."""
        follow = _Followed(self._engine, self._choice, float(rate))
        with closing(_frames(self.clip, rate)) as frames:
            for image in frames:
                begin = perf_counter()
                faces = follow.update(image)
                self.seconds += perf_counter() - begin
                scene = Scene(image, faces or self._nobody)
                yield scene
        while hold:
            yield scene

    def at_rest(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        """The face's square as it was given, uint8 RGB (*size, 3); where it was last, while it is not seen."""
        framing = scene.faces[0]
        if framing is not None:
            self._crop = framing.crop
        assert scene.image is not None
        assert self._first.faces[0] is not None
        crop = self._crop or self._first.faces[0].crop
        return crop.resized(size[0]).apply(scene.image)

    def _first_scene(self) -> Scene:
        with closing(self.scenes(self.frame_rate, hold=False)) as scenes:
            for scene in scenes:
                if scene.faces and all(face is not None for face in scene.faces):
                    return scene
        raise FaceError(f"{self.path} never shows face {self._choice}; choose another video or face.")


Source: TypeAlias = SourcePicture | SourceVideo


class _Followed:
    """The chosen people of a clip, framed in each frame; and those around them, who are to be left alone."""

    def __init__(self, engine: Engine[Any, Any, Any, Any, Any], choice: FaceChoice, rate_hz: float) -> None:
        # The largest face may be another one in another shot; whoever is named stays who it was.
        self._one = FaceTracker(choice) if choice.kind == "largest" else None
        self._people = PeopleTracker(choice) if self._one is None else None
        self._spec, self._size_px, self._rate_hz = engine.crop, engine.crop_size_px, rate_hz
        self._windows: list[SourceWindow] = []

    def update(self, image: np.ndarray) -> tuple[Framing | None, ...]:
        """One per chosen face, None where it is not seen; nothing before they were seen for the first time."""
        numbers: tuple[int, ...] = (0,)
        around: list[Crop] = []
        if self._people is not None:
            tracked = self._people.update(image)
            numbers, around = self._people.numbers, [self._square(face) for face in self._people.others]
        else:
            assert self._one is not None
            tracked = [self._one.update(image)]
        while len(self._windows) < len(tracked):
            spec = self._spec
            self._windows.append(SourceWindow(self._size_px, self._rate_hz, spec.scale, spec.vx, spec.vy))
        crops = [
            None if face is None else window.update(face.landmarks, restart=face.cut)
            for face, window in zip(tracked, self._windows, strict=True)
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


def _frames(clip: Any, rate: Fraction) -> Generator[np.ndarray, None, None]:
    with closing(prefetch(resample(clip, rate, end=clip.duration))) as frames:  # type: ignore[type-var]
        for frame in frames:
            yield frame.image

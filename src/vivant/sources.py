"""Who is animated: people of a picture that stays, or of a video in which they are followed (vivant.scenes).

A video is read twice: once until the first face, so that a Portrait can be made, and once from the beginning while
it is animated. Memory does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from vivant.engine import Engine, Portrait
from vivant.errors import FaceError, InputError
from vivant.face.choose import FaceChoice, parse_face_choice
from vivant.face.framing import Framing
from vivant.media.reader import read_clip
from vivant.media.resample import tidy_rate
from vivant.ops.fetching import as_pixels
from vivant.scenes import Followed, SameScene, Scene, Scenes, Standing, VideoScenes, frames_at


class SourcePicture:
    """Portraits that stay as they are, all of one picture."""

    moves = False

    def __init__(self, people: Sequence[Portrait]) -> None:
        """Raises InputError where several portraits are not of one picture."""
        self._people = list(people)
        framings = tuple(portrait.framing for portrait in people)
        images = [None if framing is None else framing.image for framing in framings]
        if len(images) > 1 and any(image is None or image is not images[0] for image in images):
            raise InputError("several faces are animated in one picture: prepare them with `prepare_faces`")
        self.scene = Scene(images[0], framings, framings)

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

    def scenes(self, rate: Fraction, *, hold: bool, after: Standing | None = None) -> Scenes:
        """The same scene for ever."""
        return SameScene(self.scene)

    def at_rest(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        """The face's square as it was given, uint8 RGB (*size, 3)."""
        reference = self._people[0].reference
        assert reference is not None, "a portrait that is made by `prepare` has its reference"
        whole = torch.nn.functional.interpolate(reference[None], size, mode="bilinear", antialias=True)
        return as_pixels(whole[0]).cpu().numpy()


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
        self._choice = parse_face_choice(face) if isinstance(face, str) else face
        self._engine = engine
        self._num_people = 0
        self._first = self._first_scene()
        self._num_people = len(self._first.faces)

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

    def scenes(self, rate: Fraction, *, hold: bool, after: Standing | None = None) -> Scenes:
        """The video at an output rate, its people followed; after its end nothing, or the last frame for ever.

        after: where an earlier run, at the same rate, stood.
        """
        follow = Followed(self._engine, self._choice, float(rate), self._num_people)
        scenes = VideoScenes(frames_at(self.clip, rate), follow, hold=hold)
        if after is not None:
            scenes.go_on(after)
        return scenes

    def at_rest(self, scene: Scene, size: tuple[int, int]) -> np.ndarray:
        """The face's square as it was given, uint8 RGB (*size, 3); where it was last, while it is not seen."""
        framing = scene.last[0] or self._first.faces[0]
        assert scene.image is not None
        assert framing is not None
        return framing.crop.resized(size[0]).apply(scene.image)

    def _first_scene(self) -> Scene:
        with closing(self.scenes(self.frame_rate, hold=False)) as scenes:
            for scene in scenes:
                if scene.faces and all(face is not None for face in scene.faces):
                    return scene
        raise FaceError(f"{self.path} never shows face {self._choice}; choose another video or face.")


Source: TypeAlias = SourcePicture | SourceVideo

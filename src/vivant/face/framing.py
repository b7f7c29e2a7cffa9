"""From a picture to a framed face in one call: detect, choose, find the landmarks, crop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vivant.errors import FaceError, InputError
from vivant.face.choose import MIN_FACE_PX, FaceChoice, choose_faces, parse_face_choice
from vivant.face.crop import Crop, box_crop, crop_transform
from vivant.face.detect import Detection, FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.points import Landmarks

# The networks of OpenCV keep buffers of the running pass, so each thread has its own.
_thread = threading.local()


@dataclass(frozen=True)
class Framing:
    """A face and the square around it."""

    image: np.ndarray
    """The original picture, uint8 RGB (height, width, 3)."""
    crop: Crop
    landmarks: Landmarks | None
    """In pixels of the original picture; None where no mesh was laid on the face: given squares, animals."""
    index: int
    """Number of the face in the picture, 0 is the largest, or the only one given."""
    others: tuple[Crop, ...] = ()
    """The squares of the other faces of the picture, which this one's must leave alone."""

    @property
    def cropped(self) -> np.ndarray:
        """uint8 RGB (size, size, 3)."""
        return self.crop.apply(self.image)

    def within(self, side_px: int) -> Framing:
        """The same in a picture whose longer side is at most `side_px`; even sizes, as video wants them."""
        height, width = self.image.shape[:2]
        share = min(1.0, side_px / max(height, width))
        size = (max(2, round(width * share / 2) * 2), max(2, round(height * share / 2) * 2))
        if size == (width, height):
            return self
        x_scale, y_scale = size[0] / width, size[1] / height
        landmarks = self.landmarks
        if landmarks is not None:
            points = landmarks.points * np.array([x_scale, y_scale, x_scale], np.float32)
            landmarks = replace(landmarks, points=points)
        return Framing(
            cv2.resize(self.image, size, interpolation=cv2.INTER_AREA),
            self.crop.in_resized(x_scale, y_scale),
            landmarks,
            self.index,
            tuple(other.in_resized(x_scale, y_scale) for other in self.others),
        )


@dataclass(frozen=True)
class FoundFace:
    """A detection that the mesh confirms."""

    detection: Detection
    landmarks: Landmarks


def default_detector() -> FaceDetector:
    """This thread's detector, loaded at the first call."""
    if not hasattr(_thread, "detector"):
        _thread.detector = FaceDetector()
    return _thread.detector


def default_mesh() -> FaceMesh:
    """This thread's mesh with irises, loaded at the first call."""
    if not hasattr(_thread, "mesh"):
        _thread.mesh = FaceMesh()
    return _thread.mesh


def list_faces(image: np.ndarray) -> list[FoundFace]:
    """All faces of a uint8 RGB picture, largest first: their places in the list are what `--face N` means."""
    mesh = default_mesh()
    found = [(face, mesh.landmarks(image, face)) for face in default_detector().detect(image)]
    return [FoundFace(face, landmarks) for face, landmarks in found if landmarks is not None]


def frame_faces(
    image: np.ndarray,
    choice: FaceChoice | str = "largest",
    *,
    size_px: int,
    scale: float = 2.3,
    vy: float = -0.125,
    vx: float = 0.0,
    rotate: bool = True,
    name: str = "image",
    min_px: float = MIN_FACE_PX,
) -> list[Framing]:
    """The chosen faces of a uint8 RGB picture with their crops, by number; raises FaceError naming `name`.

    scale, vx, vy: see `crop_square`. min_px: smallest face that is accepted. A square that is given is taken as it is.
    """
    choice = parse_face_choice(choice) if isinstance(choice, str) else choice
    if choice.square is not None:
        return [given_square(image, choice.square, size_px=size_px, name=name)]
    faces = list_faces(image)
    numbers = choose_faces([face.detection for face in faces], choice, name=name, min_px=min_px)
    crops = [crop_transform(face.landmarks.points, size_px, scale, vx, vy, rotate) for face in faces]
    return [
        Framing(image, crops[number], faces[number].landmarks, number, _all_but(number, crops))
        for number in numbers
    ]


def _all_but(number: int, crops: Sequence[Crop]) -> tuple[Crop, ...]:
    return tuple(crop for index, crop in enumerate(crops) if index != number)


def given_square(
    image: np.ndarray, square: tuple[float, float, float], *, size_px: int, name: str = "image"
) -> Framing:
    """The upright square with that centre x, y and side in pixels, whatever it shows. Raises InputError outside."""
    x, y, side = square
    height, width = image.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"the square {x:g},{y:g}@{side:g} has its centre outside {name}, which is {width}x{height}"
        )
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Framing(image, box_crop(box, size_px), None, 0)


def the_one(framings: Sequence[Framing], name: str) -> Framing:
    """Of chosen faces, where one is needed. Raises FaceError naming `name`."""
    if len(framings) > 1:
        numbers = ", ".join(str(framing.index) for framing in framings)
        raise FaceError(
            f"of {name}, faces {numbers} are meant and one is needed here: choose with --face largest, N or x,y"
        )
    return framings[0]

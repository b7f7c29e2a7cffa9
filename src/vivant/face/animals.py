"""Where an animal's face is, guessed by the detector of human faces at a low threshold.

The published system uses a keypoint model for animals that may not be used commercially. Ours was trained on people:
on cats it often finds the face among ears and cheeks, and often enough not. So the guess is told, and a square can be
given instead. No mesh, no points: what the face mesh says about an animal is wrong.
"""

from __future__ import annotations

import logging

import numpy as np

from vivant.errors import FaceError
from vivant.face.choose import FaceChoice, parse_face_choice
from vivant.face.crop import box_crop
from vivant.face.detect import Detection
from vivant.face.framing import Framing, default_detector, given_square

MIN_SCORE = 0.1
SQUARE_OVER_BOX = 1.3
"""The published crop is 2.3 times as wide as an animal's eyes and mouth; the detector's box is wider than those."""

log = logging.getLogger(__name__)


def frame_animal(
    image: np.ndarray, choice: FaceChoice | str, *, size_px: int, name: str = "image"
) -> Framing:
    """The chosen face of an animal in a uint8 RGB picture, upright; faces are numbered from the surest (0).

    Raises FaceError, naming `name`, where nothing looks like a face and where more than one is asked for.
    """
    if isinstance(choice, str):
        choice = parse_face_choice(choice)
    if choice.square is not None:
        return given_square(image, choice.square, size_px=size_px, name=name)
    if choice.kind == "all" or choice.numbers:
        raise FaceError(
            f"{name}: one animal is animated at a time, not --face {choice}; choose a number, or its square: "
            "--face x,y@size"
        )
    faces = sorted(default_detector().detect(image, MIN_SCORE), key=lambda face: -face.score)
    number = _chosen(choice, faces)
    if number is None:
        raise FaceError(
            f"no face of an animal found in {name} for --face {choice}; give its square: "
            "--face x,y@size (centre and side in pixels)"
        )
    (x, y), side = faces[number].centre, faces[number].side_px * SQUARE_OVER_BOX
    log.warning(
        "%s: the animal's face is taken to be at %.0f,%.0f@%.0f; if not, say --face x,y@size",
        name,
        x,
        y,
        side,
    )
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    return Framing(image, box_crop(box, size_px), None, number)


def _chosen(choice: FaceChoice, faces: list[Detection]) -> int | None:
    """The surest, the one of that number, or the surest around a point; None where there is none."""
    number = choice.number or 0
    if choice.point is not None:
        x, y = choice.point
        around = [i for i, face in enumerate(faces) if _holds(face, x, y)]
        return around[0] if around else None
    return number if number < len(faces) else None


def _holds(face: Detection, x: float, y: float) -> bool:
    x0, y0, x1, y1 = face.box
    return x0 <= x <= x1 and y0 <= y <= y1

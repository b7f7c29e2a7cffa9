"""Which face of a picture is meant: parsing the option and picking among numbered detections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vivant.errors import FaceError, InputError
from vivant.face.detect import Detection

MIN_FACE_PX = 32
# A point this far outside a box, relative to the box's side, still means that face.
POINT_SLACK = 0.25


@dataclass(frozen=True)
class FaceChoice:
    """What the user asked for."""

    kind: Literal["largest", "number", "numbers", "point", "all", "square"] = "largest"
    number: int | None = None
    """Index in the list of detections, largest first."""
    numbers: tuple[int, ...] = ()
    point: tuple[float, float] | None = None
    """x, y in pixels of the picture."""
    square: tuple[float, float, float] | None = None
    """Centre x, y and side in pixels of the picture: nothing is looked for."""

    def __str__(self) -> str:
        if self.square is not None:
            x, y, size = self.square
            return f"{x:g},{y:g}@{size:g}"
        if self.number is not None:
            return str(self.number)
        if self.numbers:
            return ",".join(str(number) for number in self.numbers)
        return f"{self.point[0]:g},{self.point[1]:g}" if self.point is not None else self.kind


def parse_face_choice(text: str) -> FaceChoice:
    """`largest`, `all`, a face number counted from 0, several such as `0,1,3`, or a pixel position `x,y`.

    Two numbers are a position; where no face is there, but faces of those numbers are, `choose_faces` takes those.
    `x,y@size` is a square, to be taken as it is.
    """
    cleaned = text.strip().lower()
    if cleaned in ("largest", ""):
        return FaceChoice()
    if cleaned == "all":
        return FaceChoice("all")
    if re.fullmatch(r"\d+", cleaned):
        return FaceChoice("number", number=int(cleaned))
    if re.fullmatch(r"\d+(\s*,\s*\d+){2,}", cleaned):
        return FaceChoice("numbers", numbers=tuple(sorted({int(part) for part in cleaned.split(",")})))
    square = re.fullmatch(r"(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)\s*@\s*(\d+(?:\.\d+)?)", cleaned)
    if square:
        x, y, size = (float(value) for value in square.groups())
        if size < MIN_FACE_PX:
            raise InputError(
                f"--face {text}: the square's side is {size:g} px, at least {MIN_FACE_PX} are needed"
            )
        return FaceChoice("square", square=(x, y, size))
    position = re.fullmatch(r"(\d+(?:\.\d+)?)\s*,\s*(\d+(?:\.\d+)?)", cleaned)
    if position:
        return FaceChoice("point", point=(float(position[1]), float(position[2])))
    raise InputError(
        f"--face {text!r} is not understood: use largest, all, a number from 0 or x,y in px, "
        "several numbers such as 0,2, or a square x,y@size"
    )


def choose_face(
    detections: Sequence[Detection],
    choice: FaceChoice | str = "largest",
    *,
    name: str = "image",
    min_px: float = MIN_FACE_PX,
) -> int:
    """Number of the face that is meant among `detections` (largest first)."""
    numbers = choose_faces(detections, choice, name=name, min_px=min_px)
    if len(numbers) > 1:
        raise FaceError(
            f"{name} shows {len(numbers)} faces and one is needed here: "
            f"choose with --face largest, --face 0..{len(detections) - 1} or --face x,y"
        )
    return numbers[0]


def choose_faces(
    detections: Sequence[Detection],
    choice: FaceChoice | str = "largest",
    *,
    name: str = "image",
    min_px: float = MIN_FACE_PX,
) -> list[int]:
    """Numbers of the faces that are meant: one, those named, or for `all` every face that is large enough."""
    if isinstance(choice, str):
        choice = parse_face_choice(choice)
    if choice.square is not None:
        raise InputError(
            f"--face {choice} is a square, and here a face is looked for: use largest, a number or x,y"
        )
    if not detections:
        raise FaceError(
            f"no face found in {name}: a face needs to be visible, lit and at least {min_px:g} px wide"
        )
    if choice.kind == "all":
        large = [number for number, face in enumerate(detections) if face.side_px >= min_px]
        return large or [_checked(0, detections, name, min_px)]
    if choice.point is not None:
        at_point = _at_point(choice.point, detections)
        numbers = (at_point,) if at_point is not None else _as_numbers(choice.point, detections, name)
    else:
        numbers = choice.numbers if choice.number is None else (choice.number,)
    for number in numbers:
        if number >= len(detections):
            raise FaceError(f"{name} shows {describe_faces(detections)}; --face {number} does not exist")
    return [_checked(number, detections, name, min_px) for number in numbers or (0,)]


def describe_faces(detections: Sequence[Detection]) -> str:
    """For messages: `1 face numbered 0`, `3 faces numbered 0-2`."""
    count = len(detections)
    if count == 0:
        return "no face"
    return "1 face numbered 0" if count == 1 else f"{count} faces numbered 0-{count - 1}"


def _checked(number: int, detections: Sequence[Detection], name: str, min_px: float) -> int:
    side = detections[number].side_px
    if side < min_px:
        raise FaceError(
            f"face {number} in {name} is too small: {side:.0f} px, at least {min_px:g} needed. "
            "Use a larger picture of it."
        )
    return number


def _at_point(point: tuple[float, float], detections: Sequence[Detection]) -> int | None:
    x, y = point

    def distance(face: Detection) -> float:
        centre_x, centre_y = face.centre
        return max(abs(x - centre_x), abs(y - centre_y)) / max(face.side_px, 1e-6)

    number = min(range(len(detections)), key=lambda index: distance(detections[index]))
    return number if distance(detections[number]) <= 0.5 + POINT_SLACK else None


def _as_numbers(point: tuple[float, float], detections: Sequence[Detection], name: str) -> tuple[int, ...]:
    if all(value.is_integer() and value < len(detections) for value in point):
        return tuple(sorted({int(value) for value in point}))
    places = "; ".join(f"{i} at {f.centre[0]:.0f},{f.centre[1]:.0f}" for i, f in enumerate(detections))
    raise FaceError(f"no face of {name} is at {point[0]:g},{point[1]:g}; its faces are {places}")

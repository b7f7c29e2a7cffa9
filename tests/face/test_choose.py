"""Which face is meant, and what is said when it is not there."""

from __future__ import annotations

import pytest

from vivant.errors import FaceError, InputError
from vivant.face.choose import FaceChoice, choose_face, choose_faces, describe_faces, parse_face_choice
from vivant.face.detect import Detection


def face(x: float, y: float, side: float) -> Detection:
    half = side / 2
    return Detection((x - half, y - half, x + half, y + half), 0.9, *([(x, y)] * 6))


THREE = [face(100, 100, 80), face(300, 100, 60), face(450, 120, 18)]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("largest", FaceChoice()),
        (" Largest ", FaceChoice()),
        ("all", FaceChoice("all")),
        ("0", FaceChoice("number", number=0)),
        ("12", FaceChoice("number", number=12)),
        ("2, 0,1", FaceChoice("numbers", numbers=(0, 1, 2))),
        ("120, 44.5", FaceChoice("point", point=(120.0, 44.5))),
    ],
)
def test_parse(text: str, choice: FaceChoice) -> None:
    assert parse_face_choice(text) == choice
    assert parse_face_choice(str(choice)) == choice


@pytest.mark.parametrize("text", ["biggest", "-1", "1.5", "3,", "1,2,x"])
def test_parse_errors_list_what_is_possible(text: str) -> None:
    with pytest.raises(InputError, match="largest, all, a number from 0 or x,y"):
        parse_face_choice(text)


@pytest.mark.parametrize(
    ("choice", "number"), [("largest", 0), ("1", 1), ("300,105", 1), ("95,60", 0), ("350,100", None)]
)
def test_choose(choice: str, number: int | None) -> None:
    if number is None:
        with pytest.raises(FaceError, match=r"at 350,100; its faces are 0 at 100,100; 1 at 300,100"):
            choose_face(THREE, choice)
    else:
        assert choose_face(THREE, choice) == number


def test_several_numbers() -> None:
    """Two numbers are a place in the picture, unless no face is there and faces have those numbers."""
    assert choose_faces(THREE, "1,0", min_px=10) == [0, 1]
    assert choose_faces(THREE, "0,1,2", min_px=10) == [0, 1, 2]
    assert choose_faces([face(8, 8, 40), face(100, 100, 40)], "0,1") == [0]
    with pytest.raises(FaceError, match="--face 4 does not exist"):
        choose_faces(THREE, "0,1,4", name="a.png")
    with pytest.raises(FaceError, match="too small: 18 px"):
        choose_faces(THREE, "0,1,2")


def test_all_means_all_that_are_large_enough() -> None:
    assert choose_faces(THREE, "all") == [0, 1]
    with pytest.raises(FaceError, match=r"2 faces and one is needed"):
        choose_face(THREE, "all")
    assert choose_face(THREE[:1], "all") == 0


def test_messages_name_the_input_and_the_numbers() -> None:
    with pytest.raises(FaceError, match=r"no face found in cat\.jpg"):
        choose_face([], name="cat.jpg")
    with pytest.raises(FaceError, match=r"a\.png shows 3 faces numbered 0-2; --face 5 does not exist"):
        choose_face(THREE, "5", name="a.png")
    with pytest.raises(FaceError, match=r"too small: 18 px, at least 32 needed"):
        choose_face(THREE, "2")
    assert choose_face(THREE, "2", min_px=10) == 2
    with pytest.raises(FaceError, match="too small"):
        choose_faces(THREE[2:], "all")
    assert describe_faces(THREE[:1]) == "1 face numbered 0"

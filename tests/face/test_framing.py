"""One call from picture to framed face, as engines use it."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
import pytest

from vivant.errors import FaceError
from vivant.face.framing import Framing, default_detector, default_mesh, frame_faces, list_faces, the_one
from vivant.face.points import CHIN, EYE_LEFT_OUTER, EYE_RIGHT_OUTER, FOREHEAD_TOP

pytestmark = pytest.mark.usefixtures("face_models")


def frame_face(image: np.ndarray, choice: str = "largest", name: str = "image", **crop: Any) -> Framing:
    return the_one(frame_faces(image, choice, name=name, **crop), name)


def test_the_face_fills_the_crop_upright(portrait: np.ndarray) -> None:
    matrix = cv2.getRotationMatrix2D((183, 150), 20, 1)
    tilted = cv2.warpAffine(portrait, matrix, (400, 400), borderMode=cv2.BORDER_REPLICATE)
    framing = frame_face(tilted, size_px=256)
    assert framing.index == 0
    assert framing.cropped.shape == (256, 256, 3)
    points = framing.crop.to_crop(framing.landmarks.xy)
    left, right = points[EYE_LEFT_OUTER], points[EYE_RIGHT_OUTER]
    assert abs(left[1] - right[1]) < 8
    assert abs((left[0] + right[0]) / 2 - 128) < 12
    assert 0.25 * 256 < right[0] - left[0] < 0.4 * 256
    assert 0 < points[FOREHEAD_TOP, 1] < points[CHIN, 1] < 256
    upright = frame_face(tilted, size_px=256, rotate=False)
    assert upright.crop.image_to_crop[0, 1] == 0


def test_options_reach_the_crop(portrait: np.ndarray) -> None:
    plain = frame_face(portrait, size_px=256)
    shifted = frame_face(portrait, size_px=256, vx=0.1)
    tight = frame_face(portrait, "0", size_px=256, scale=1.5)
    middle = np.array([[128.0, 128.0]])
    moved = plain.crop.to_crop(shifted.crop.to_image(middle)) - middle
    np.testing.assert_allclose(moved, [[25.6, 0]], atol=0.05)
    assert plain.crop.side_px / tight.crop.side_px == pytest.approx(2.3 / 1.5, rel=1e-4)


def test_errors_name_the_input(portrait: np.ndarray) -> None:
    with pytest.raises(FaceError, match=r"no face found in wall\.png"):
        frame_face(np.full((300, 300, 3), 200, np.uint8), size_px=256, name="wall.png")
    with pytest.raises(FaceError, match=r"me\.jpg shows 1 face numbered 0; --face 2 does not exist"):
        frame_face(portrait, "2", size_px=256, name="me.jpg")
    with pytest.raises(FaceError, match=r"too small: \d+ px, at least 200 needed"):
        frame_face(portrait, size_px=256, min_px=200)


def test_listed_faces_have_the_numbers_of_the_option(portrait: np.ndarray) -> None:
    both = np.concatenate([cv2.resize(portrait, (300, 300)), np.full((300, 20, 3), 128, np.uint8)], axis=1)
    both = np.full((400, 760, 3), 128, np.uint8)
    both[:, 20:420] = portrait
    both[:300, 440:740] = cv2.resize(portrait[:, ::-1], (300, 300))
    faces = list_faces(both)
    assert [face.detection.centre[0] < 420 for face in faces] == [True, False]
    for number, face in enumerate(faces):
        framing = frame_face(both, str(number), size_px=64)
        x0, _, x1, _ = framing.landmarks.box
        assert x0 < face.detection.centre[0] < x1


def test_several_faces_have_their_numbers(portrait: np.ndarray) -> None:
    both = np.concatenate(
        [cv2.resize(portrait, (300, 300)), cv2.resize(portrait, (300, 300))[:, ::-1]], axis=1
    )
    assert [framing.index for framing in frame_faces(both, "all", size_px=64)] == [0, 1]
    with pytest.raises(FaceError, match="of us, faces 0, 1 are meant and one is needed"):
        frame_face(both, "all", name="us", size_px=64)


def test_each_thread_has_its_own_networks() -> None:
    seen = [(default_detector(), default_mesh())]
    thread = threading.Thread(target=lambda: seen.append((default_detector(), default_mesh())))
    thread.start()
    thread.join()
    assert default_detector() is seen[0][0]
    assert seen[0][0] is not seen[1][0]
    assert seen[0][1] is not seen[1][1]

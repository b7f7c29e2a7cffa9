"""The detector on a real face: place, size, tiles, order."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import coffee

from vivant.face.detect import FaceDetector, _merge


def on_canvas(picture: np.ndarray, height: int, width: int, *places: tuple[int, int, int]) -> np.ndarray:
    """Copies of the picture, (x, y, side) each, on a grey canvas."""
    canvas = np.full((height, width, 3), 128, np.uint8)
    for x, y, side in places:
        canvas[y : y + side, x : x + side] = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return canvas


def test_one_face(detector: FaceDetector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    assert face.score > 0.9
    np.testing.assert_allclose(face.centre, (183, 120), atol=12)
    assert 90 < face.side_px < 150
    assert face.eye_left[0] < face.nose_tip[0] < face.eye_right[0]
    assert face.ear_left[0] < face.eye_left[0]
    assert face.eye_left[1] < face.nose_tip[1] < face.mouth[1]


def test_no_face(detector: FaceDetector) -> None:
    assert detector.detect(coffee()) == []
    assert detector.detect(np.zeros((50, 300, 3), np.uint8)) == []


@pytest.mark.parametrize(("height", "width"), [(400, 700), (700, 400), (401, 403)])
def test_any_aspect(detector: FaceDetector, portrait: np.ndarray, height: int, width: int) -> None:
    (face,) = detector.detect(on_canvas(portrait, height, width, (0, 0, 400)))
    np.testing.assert_allclose(face.centre, (183, 120), atol=12)


def test_small_faces_need_tiles_and_are_numbered_by_size(
    detector: FaceDetector, portrait: np.ndarray
) -> None:
    places = ((40, 60, 200), (700, 80, 260), (420, 400, 230))
    canvas = on_canvas(portrait, 720, 1200, *places)
    faces = detector.detect(canvas)
    assert len(faces) == 3
    for face, (x, y, side) in zip(faces, sorted(places, key=lambda place: -place[2]), strict=True):
        np.testing.assert_allclose(face.centre, (x + 0.46 * side, y + 0.3 * side), atol=0.04 * side)
    assert len(detector.detect(canvas, tiles=False)) < 3


def test_tiny_face(detector: FaceDetector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(on_canvas(portrait, 900, 1200, (800, 300, 130)))
    np.testing.assert_allclose(face.centre, (860, 339), atol=8)


def test_large_and_small_together(detector: FaceDetector, portrait: np.ndarray) -> None:
    faces = detector.detect(on_canvas(portrait, 700, 1100, (0, 0, 700), (800, 200, 200)))
    assert [round(face.side_px / 50) for face in faces] == [4, 1]


def test_min_score(detector: FaceDetector, portrait: np.ndarray) -> None:
    assert detector.detect(portrait, min_score=0.9999) == []


def test_wrong_pictures_are_refused(detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((10, 10, 3), np.float32))


def test_a_part_of_a_face_is_not_another_face() -> None:
    row = lambda score, x, y, side: np.array([score, x, y, x + side, y + side, *[0.0] * 12])  # noqa: E731
    rows = np.stack([row(0.9, 0, 0, 100), row(0.8, 4, 4, 100), row(0.7, 30, 30, 40), row(0.6, 300, 0, 50)])
    merged = _merge(rows)
    assert merged.shape == (2, 17)
    np.testing.assert_allclose(merged[0, 1:5], [1.88, 1.88, 101.88, 101.88], atol=0.01)
    assert merged[0, 0] == 0.9

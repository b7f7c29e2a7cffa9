"""The mesh on a real face: it follows shifts, turns and mirrors, and refuses what is no face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vivant.face import points as names
from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.points import Landmarks, eye_openness, head_angles, interocular

# The eye network alone is only as steady as this, relative to the distance of the outer eye corners.
STEADY = 0.03


@pytest.fixture(scope="module")
def landmarks(detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray) -> Landmarks:
    (face,) = detector.detect(portrait)
    found = mesh.landmarks(portrait, face)
    assert found is not None
    return found


def distance(a: np.ndarray, b: np.ndarray, unit: float) -> float:
    """Median distance of points relative to `unit`."""
    return float(np.median(np.linalg.norm(a - b, axis=1)) / unit)


def test_points_lie_on_the_face(landmarks: Landmarks) -> None:
    assert landmarks.score > 0.9
    assert landmarks.has_iris
    xy = landmarks.xy
    assert xy[names.EYE_LEFT_OUTER][0] < xy[names.EYE_LEFT_INNER][0] < xy[names.EYE_RIGHT_INNER][0]
    assert xy[names.FOREHEAD_TOP][1] < xy[names.NOSE_TIP][1] < xy[names.LIP_INNER_TOP][1] < xy[names.CHIN][1]
    assert landmarks.points[names.NOSE_TIP, 2] < landmarks.points[names.FACE_SIDE_LEFT, 2], (
        "the nose is nearer"
    )
    for eye, iris in ((names.EYE_LEFT, names.IRIS_LEFT), (names.EYE_RIGHT, names.IRIS_RIGHT)):
        low, high = xy[list(eye)].min(0), xy[list(eye)].max(0)
        assert (low < xy[iris[0]]).all()
        assert (xy[iris[0]] < high).all()
        radius = np.linalg.norm(xy[list(iris[1:])] - xy[iris[0]], axis=1)
        assert 0.04 < radius.mean() / interocular(landmarks) < 0.1
    assert min(eye_openness(landmarks)) > 0.2
    np.testing.assert_allclose(head_angles(landmarks), (0, 8, 0), atol=12)


def test_following_stays_put(mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks) -> None:
    again = mesh.landmarks(portrait, landmarks)
    assert again is not None
    assert distance(again.xy, landmarks.xy, interocular(landmarks)) < STEADY / 3


def test_following_a_shift(mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks) -> None:
    moved = np.roll(portrait, (9, -14), (0, 1))
    found = mesh.landmarks(moved, landmarks)
    assert found is not None
    assert distance(found.xy, landmarks.xy + np.array([-14, 9]), interocular(landmarks)) < STEADY


@pytest.mark.parametrize("degrees", [-35, 40])
def test_tilted_head(
    detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks, degrees: int
) -> None:
    matrix = cv2.getRotationMatrix2D((183, 150), degrees, 0.8)
    turned = cv2.warpAffine(portrait, matrix, (400, 400), borderMode=cv2.BORDER_REPLICATE)
    found = mesh.landmarks(turned, detector.detect(turned)[0])
    assert found is not None
    expected = landmarks.xy @ matrix[:, :2].T + matrix[:, 2]
    assert distance(found.xy, expected, interocular(found)) < STEADY
    assert head_angles(found)[2] - head_angles(landmarks)[2] == pytest.approx(degrees, abs=3)


def test_mirrored_head(
    detector: FaceDetector, mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks
) -> None:
    mirrored = np.ascontiguousarray(portrait[:, ::-1])
    found = mesh.landmarks(mirrored, detector.detect(mirrored)[0])
    assert found is not None
    for left, right in (*names.MIRROR_PAIRS, (names.IRIS_LEFT[0], names.IRIS_RIGHT[0])):
        expected = landmarks.xy[right] * [-1, 1] + [399, 0]
        assert np.linalg.norm(found.xy[left] - expected) / interocular(landmarks) < 2 * STEADY


def test_enlarged_picture(mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks) -> None:
    """Large faces are averaged down to the network, so that size does not change the points."""
    large = cv2.resize(portrait, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    found = mesh.landmarks(large, Landmarks(landmarks.points * 4, 1.0))
    assert found is not None
    assert distance(found.xy, landmarks.xy * 4 + 1.5, interocular(found)) < STEADY / 2


def test_no_face_here(mesh: FaceMesh, portrait: np.ndarray, landmarks: Landmarks) -> None:
    assert mesh.landmarks(np.full_like(portrait, 90), landmarks) is None
    noise = np.random.default_rng(0).integers(0, 255, portrait.shape, np.uint8)
    assert mesh.landmarks(noise, landmarks) is None


def test_without_iris(face_models: None, portrait: np.ndarray, landmarks: Landmarks) -> None:
    found = FaceMesh(with_iris=False).landmarks(portrait, landmarks)
    assert found is not None
    assert found.points.shape == (names.NUM_MESH, 3)
    assert distance(found.xy, landmarks.xy[: names.NUM_MESH], interocular(landmarks)) < STEADY

"""Several people in one clip keep their numbers: side by side, behind each other, crossing, after a cut."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vivant.face.detect import FaceDetector
from vivant.face.mesh import FaceMesh
from vivant.face.people import PeopleTracker, head_shape, shape_distance

FRAMES = 36
SIZES = ((1.4, 0.9), (0.9, 1.4))
"""Which of the two heads is nearer to the camera."""


@pytest.fixture(scope="module")
def heads(portrait: np.ndarray) -> list[np.ndarray]:
    """Two people as cards: one, and one with a broader face, other colours and the other side in front."""
    card = portrait[20:220, 90:280]
    broad = cv2.resize(card[:, ::-1], (228, 190))
    return [card, np.asarray(255 - (255 - broad[..., ::-1].astype(int)) * 0.7, np.uint8)]


def scene(heads: list[np.ndarray], places: list[tuple[float, float]]) -> np.ndarray:
    """Cards with their middles at these places; later ones are in front."""
    canvas = np.full((320, 860, 3), 120, np.uint8)
    for head, (x, y) in zip(heads, places, strict=True):
        height, width = head.shape[:2]
        left, top = round(x - width / 2), round(y - height / 2)
        canvas[top : top + height, left : left + width] = head
    return canvas


def crossing(frame: int) -> list[tuple[float, float]]:
    """The broad one walks from right to left, in front of the other, who walks from left to right."""
    share = frame / (FRAMES - 1)
    return [(150 + 560 * share, 150), (710 - 560 * share, 165)]


def meeting(frame: int) -> list[tuple[float, float]]:
    """Both come together until one hides the other, and go back."""
    share = 1 - abs(2 * frame / (FRAMES - 1) - 1)
    return [(150 + 270 * share, 150), (710 - 270 * share, 165)]


@pytest.mark.parametrize("path", [crossing, meeting])
def test_people_keep_their_numbers(
    detector: FaceDetector, mesh: FaceMesh, heads: list[np.ndarray], path: object
) -> None:
    assert callable(path)
    tracker = PeopleTracker("all", detector=detector, mesh=mesh)
    seen_x: list[list[float | None]] = []
    for frame in range(FRAMES):
        people = tracker.update(scene(heads, path(frame)))
        assert len(people) == 2
        seen_x.append([None if face is None else float(face.landmarks.xy[:, 0].mean()) for face in people])
    first = [int(abs(x - path(0)[1][0]) < abs(x - path(0)[0][0])) for x in seen_x[0] if x is not None]
    assert sorted(first) == [0, 1], "which person has which number"
    hidden = [frame for frame, places in enumerate(seen_x) if None in places]
    assert hidden, "one is behind the other for a while"
    assert len(hidden) < FRAMES / 2
    for frame, places in enumerate(seen_x):
        truth = path(frame)
        if abs(truth[0][0] - truth[1][0]) > 130:
            for who, x in zip(first, places, strict=True):
                assert x is not None, f"frame {frame}"
                assert abs(x - truth[who][0]) < 40, f"frame {frame}: {places} should be {truth}"


def test_chosen_people_alone(detector: FaceDetector, mesh: FaceMesh, heads: list[np.ndarray]) -> None:
    """The other is followed too, so that the chosen one is not mistaken; numbers are those of the first frame."""
    tracker = PeopleTracker("1", detector=detector, mesh=mesh)
    assert tracker.update(np.full((320, 860, 3), 120, np.uint8)) == []
    for frame in range(4):
        (face,) = tracker.update(scene(heads, crossing(frame)))
        assert face is not None
    assert tracker.numbers == (1,)


def test_after_a_cut_shape_tells(detector: FaceDetector, mesh: FaceMesh, heads: list[np.ndarray]) -> None:
    """Another shot, in which the two have changed sides, and the other one is the larger."""
    tracker = PeopleTracker("all", detector=detector, mesh=mesh)
    for frame in range(6):
        before = tracker.update(scene(heads, crossing(frame)))
    other = 1 - int(before[0] is not None and before[0].landmarks.xy[:, 0].mean() > 430)
    nearer = [
        cv2.resize(head, None, fx=scale, fy=scale) for head, scale in zip(heads, SIZES[other], strict=True)
    ]
    shot = scene(nearer, crossing(FRAMES - 1))
    shot[shot == 120] = 20
    after = tracker.update(shot)
    for old, new in zip(before, after, strict=True):
        assert old is not None
        assert new is not None
        assert new.cut
        assert (old.landmarks.xy[:, 0].mean() < 430) != (new.landmarks.xy[:, 0].mean() < 430)


def test_shape_distance(mesh: FaceMesh, detector: FaceDetector, portrait: np.ndarray) -> None:
    tilted = cv2.warpAffine(portrait, cv2.getRotationMatrix2D((183, 120), 25, 1.2), (400, 400))
    wide = cv2.resize(portrait, (480, 400))
    shapes = []
    for image in (portrait, tilted, wide):
        landmarks = mesh.landmarks(image, detector.detect(image)[0])
        assert landmarks is not None
        shapes.append(head_shape(landmarks))
    assert shape_distance(shapes[0], shapes[0]) == pytest.approx(0, abs=1e-6)
    assert shape_distance(shapes[0], shapes[1]) < shape_distance(shapes[0], shapes[2])

"""Named points and the measures taken from them, on constructed faces."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden

from vivant.face import points as names
from vivant.face.points import Landmarks


def test_indices_are_distinct_and_inside() -> None:
    for group in (
        names.EYE_LEFT,
        names.EYE_RIGHT,
        names.LIPS_OUTER,
        names.LIPS_INNER,
        names.JAW,
        names.BROW_LEFT,
        names.BROW_RIGHT,
        names.IRIS_LEFT,
        names.IRIS_RIGHT,
    ):
        assert len(set(group)) == len(group)
        assert 0 <= min(group) <= max(group) < names.NUM_WITH_IRIS
    assert len(names.MULTI_PIE_68) == len(set(names.MULTI_PIE_68)) == 68
    assert len(names.JAW) == 17
    assert not set(names.EYE_LEFT) & set(names.EYE_RIGHT)


def test_published_ratios() -> None:
    for index in range(3):
        left, right, lips = names.published_ratios(golden()[f"lmk203.{index}"])
        np.testing.assert_allclose([left, right], golden()["eye_ratio"][index], atol=1e-5)
        np.testing.assert_allclose([lips], golden()["lip_ratio"][index], atol=1e-5)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Turns right, down and counter-clockwise for positive degrees; x right, y down, z away."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = [[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]]
    about_x = [[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]]
    about_z = [[np.cos(r), np.sin(r), 0], [-np.sin(r), np.cos(r), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


def constructed(turn: np.ndarray | None = None, eye_gap: float = 6.0, lip_gap: float = 0.0) -> Landmarks:
    points = np.zeros((names.NUM_WITH_IRIS, 3))
    for number, (left, right) in enumerate(names.MIRROR_PAIRS):
        points[left], points[right] = (-20 - 5 * number, -5 * number, 3), (20 + 5 * number, -5 * number, 3)
    points[names.FOREHEAD_TOP], points[names.CHIN] = (0, -60, 0), (0, 60, 0)
    points[names.NOSE_TIP] = (0, 0, -30)
    points[names.EYE_LEFT_OUTER], points[names.EYE_LEFT_INNER] = (-40, -20, 0), (-10, -20, 0)
    points[names.EYE_RIGHT_INNER], points[names.EYE_RIGHT_OUTER] = (10, -20, 0), (40, -20, 0)
    for upper, lower, x in (
        (names.LID_LEFT_UPPER, names.LID_LEFT_LOWER, -25),
        (names.LID_RIGHT_UPPER, names.LID_RIGHT_LOWER, 25),
    ):
        points[list(upper)] = (x, -20 - eye_gap / 2, 0)
        points[list(lower)] = (x, -20 + eye_gap / 2, 0)
    points[names.LIP_LEFT_CORNER], points[names.LIP_RIGHT_CORNER] = (-20, 30, 0), (20, 30, 0)
    points[names.LIP_INNER_TOP], points[names.LIP_INNER_BOTTOM] = (0, 30, 0), (0, 30 + lip_gap, 0)
    points[list(names.IRIS_LEFT)], points[list(names.IRIS_RIGHT)] = (-25, -20, 0), (25, -20, 0)
    if turn is not None:
        points = points @ turn.T
    return Landmarks((points + np.array([200, 150, 0])).astype(np.float32), 1.0)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 25), (-25, 10, 15), (20, 15, -40)]
)
def test_head_angles(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(names.head_angles(constructed(rotation(*angles))), angles, atol=0.1)


def test_positive_angles_turn_right_down_and_counter_clockwise() -> None:
    nose = lambda *angles: constructed(rotation(*angles)).xy[names.NOSE_TIP] - [200, 150]  # noqa: E731
    assert nose(30, 0, 0)[0] > 10
    assert nose(0, 30, 0)[1] > 10
    right_eye = constructed(rotation(0, 0, 30)).xy[names.EYE_RIGHT_OUTER]
    assert right_eye[1] < constructed().xy[names.EYE_RIGHT_OUTER][1]


def test_openness_does_not_depend_on_pose() -> None:
    wide = constructed(rotation(25, 10, 30), eye_gap=9, lip_gap=12)
    np.testing.assert_allclose(names.eye_openness(wide), (0.3, 0.3), atol=1e-3)
    assert names.lip_openness(wide) == pytest.approx(0.3, abs=1e-3)
    assert names.interocular(wide) == pytest.approx(80, abs=0.1)
    assert names.lip_openness(constructed()) == 0


def test_68_points_end_with_the_pupils() -> None:
    landmarks = constructed()
    points = names.to_68(landmarks)
    assert points.shape == (70, 2)
    np.testing.assert_allclose(points[68:], [[175, 130], [225, 130]])
    without = Landmarks(landmarks.points[: names.NUM_MESH], 1.0)
    assert landmarks.has_iris
    assert not without.has_iris
    np.testing.assert_allclose(names.to_68(without), points)


def test_landmarks_check_their_shape() -> None:
    with pytest.raises(ValueError, match="468 or 478"):
        Landmarks(np.zeros((68, 3), np.float32), 1.0)
    assert "478 points" in repr(constructed())

"""Distances, drift, flicker, expression and gaze: closed forms and constructed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vivant.evaluation import metrics
from vivant.evaluation.metrics.gaze import REST, SINE_PER_WIDTH
from vivant.evaluation.metrics.pose import NEUTRAL, RIGID_POINTS
from vivant.face import points as mesh_points
from vivant.studio.face_model import rotation_matrix


def gaussian(features: np.ndarray, parts: int = 1) -> metrics.RunningGaussian:
    running = metrics.RunningGaussian(features.shape[1])
    for part in np.array_split(features, parts):
        running.update(part)
    return running


def test_frechet_distance_has_its_closed_form() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 6))
    whole, parts = gaussian(features), gaussian(features, 7)
    np.testing.assert_allclose(parts.covariance, np.cov(features.T), atol=1e-12)
    assert metrics.frechet_distance(whole, parts) == pytest.approx(0, abs=1e-6)
    # A shift alone is the squared distance of the means.
    assert metrics.frechet_distance(whole, gaussian(features + 3)) == pytest.approx(6 * 9, rel=1e-9)
    # Scaling by s adds (s - 1)^2 tr C and the squared distance of the means.
    scaled = (2 - 1) ** 2 * (np.trace(whole.covariance) + np.square(whole.mean).sum())
    assert metrics.frechet_distance(whole, gaussian(2 * features)) == pytest.approx(scaled, rel=1e-9)
    assert math.isnan(metrics.frechet_distance(whole, gaussian(features[:1])))


def test_frechet_distance_of_few_features_is_that_of_the_dense_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    a, b = (gaussian(rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8)) + shift) for shift in (0, 1))
    dense = np.square(a.mean - b.mean).sum() + np.trace(
        a.covariance + b.covariance - 2 * np.real(sqrtm(a.covariance @ b.covariance))
    )
    assert metrics.frechet_distance(a, b) == pytest.approx(dense, rel=1e-6)


def test_l1_and_vectors() -> None:
    frames = torch.rand(2, 3, 4, 5)
    assert metrics.l1(frames, frames * 0.5).tolist() == pytest.approx((frames / 2).mean((1, 2, 3)).tolist())
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.l1(frames, frames[:1])
    ahead, right, up = np.eye(3)[2:], np.eye(3)[:1], np.array([[0, 2.0, 2.0]])
    assert metrics.angular_error(ahead, right)[0] == pytest.approx(90)
    assert metrics.angular_error(ahead, up)[0] == pytest.approx(45)
    assert metrics.cosine(up, up)[0] == pytest.approx(1)
    assert metrics.mean_l1(np.array([[1.0, -1.0]]), np.array([[0.0, 1.0]]))[0] == 1.5


def test_change_is_compared_frame_by_frame_or_on_average() -> None:
    generated, truth = np.array([0.1, 0.3]), np.array([0.3, 0.1])
    assert metrics.change_apart(generated, truth) == pytest.approx(20)
    assert metrics.means_apart(generated, truth) == pytest.approx(0)
    assert math.isnan(metrics.change_apart(generated[:0], truth[:0]))


def test_borders_of_chunks() -> None:
    indices = np.arange(1, 13)
    changes = np.where(indices % 4 == 0, 3.0, 2.0)
    assert metrics.border_ratio(changes, indices, 4) == pytest.approx(1.5)
    assert math.isnan(metrics.border_ratio(changes, indices, 1))
    # A delay of one frame: the first chunk holds three, the next begins with frame 3.
    shifted = np.where((indices + 1) % 4 == 0, 3.0, 2.0)
    assert metrics.border_ratio(shifted, indices, 4, 1) == pytest.approx(1.5)
    assert metrics.border_ratio(changes, indices, 4, 8) == pytest.approx(1.5)
    assert math.isnan(metrics.border_ratio(changes[:2], indices[:2], 4))


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_a_curve_stays_short_and_loses_no_frame(count: int) -> None:
    curve = metrics.Curve(8)
    values = np.arange(count, dtype=float)
    for value in values:
        curve.update(value)
    points = curve.points
    assert len(points) <= 8
    # Of a straight line every mean lies on the line.
    np.testing.assert_allclose(points[:, 1], points[:, 0])
    sizes = np.full(len(points), curve.frames_per_point)
    sizes[-1] = count - sizes[:-1].sum()
    assert (sizes * points[:, 1]).sum() == pytest.approx(values.sum())


def test_a_curve_steps_over_missing_values() -> None:
    curve = metrics.Curve(4)
    for value in (1.0, math.nan, 3.0, math.nan, math.nan, math.nan):
        curve.update(value)
    np.testing.assert_allclose(curve.points, [[0.5, 1], [2.5, 3], [4.5, math.nan]])
    assert metrics.relative_drift(2.0, 1.9) == pytest.approx(-0.05)
    assert math.isnan(metrics.relative_drift(0.0, 1.0))


def test_sharpness_and_colour() -> None:
    grey = np.full((16, 16, 3), 128, np.uint8)
    checks = grey.copy()
    checks[::2, ::2] = 160
    assert metrics.sharpness(grey) == 0
    assert metrics.sharpness(checks) > 10
    np.testing.assert_allclose(metrics.colour(grey), [53.585, 0, 0], atol=0.05)
    assert metrics.colour_difference(metrics.colour(grey), metrics.colour(grey + 32)) > 10


def head(
    yaw: float = 0,
    pitch: float = 0,
    roll: float = 0,
    *,
    seed: int = 0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """A mesh (478, 3) whose rigid points are neutral and whose irises are shifted by eye widths; turned."""
    mesh = 0.3 * np.random.default_rng(seed).normal(size=(478, 3))
    mesh[list(RIGID_POINTS)] = NEUTRAL
    for first, second, iris in (
        (mesh_points.EYE_LEFT_OUTER, mesh_points.EYE_LEFT_INNER, mesh_points.IRIS_LEFT[0]),
        (mesh_points.EYE_RIGHT_INNER, mesh_points.EYE_RIGHT_OUTER, mesh_points.IRIS_RIGHT[0]),
    ):
        width = np.linalg.norm(mesh[second] - mesh[first])
        mesh[iris] = (mesh[first] + mesh[second]) / 2
        mesh[iris, :2] += width * np.array(shift)
    return 70 * mesh * [1, -1, -1] @ rotation_matrix(yaw, pitch, roll).T * [1, -1, -1] + [120, 90, 5]


def test_expression_does_not_depend_on_pose() -> None:
    shapes = metrics.in_head_frame(np.stack([head(), head(20, -10, 15), head(seed=1)]))
    np.testing.assert_allclose(shapes[1], shapes[0], atol=1e-4)
    np.testing.assert_allclose(shapes[0, list(RIGID_POINTS)], NEUTRAL, atol=1e-6)
    errors = metrics.expression_error(shapes, shapes[[0, 0, 0]])
    assert errors[1] < 0.01 < 10 < errors[2]
    missing = head()
    missing[3] = np.nan
    assert np.isnan(metrics.in_head_frame(missing[None])).all()


def test_gaze_is_relative_to_the_head() -> None:
    sines = np.sin(np.radians([10, -5]))
    shift = tuple(sines / SINE_PER_WIDTH + REST)
    angles = metrics.gaze_angles(np.stack([head(shift=shift), head(25, 10, -5, shift=shift)]))
    np.testing.assert_allclose(angles, [[10, -5], [10, -5]], atol=0.02)
    directions = metrics.gaze_direction(np.array([[0.0, 0.0], [90.0, 0.0], [0.0, 30.0]]))
    np.testing.assert_allclose(directions, [[0, 0, 1], [1, 0, 0], [0, 0.5, math.sqrt(0.75)]], atol=1e-9)
    with pytest.raises(ValueError, match="irises"):
        metrics.gaze_angles(head()[None, :468])

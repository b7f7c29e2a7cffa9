"""The yardsticks: exact where the answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from vivant.evaluation.baselines import copy_source, landmark_affine, true_flow_warp
from vivant.evaluation.people import held_out_people
from vivant.evaluation.piecewise import PiecewiseAffine


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[:96, 150:246])


def grid(step: float) -> np.ndarray:
    at = np.arange(-0.6, 0.61, step)
    return np.stack(np.meshgrid(at, at), -1).reshape(-1, 2).astype(np.float32)


def test_nothing_moves_where_points_stay(photo: np.ndarray) -> None:
    points = grid(0.3)
    assert np.array_equal(copy_source(photo), photo)
    assert np.abs(landmark_affine(photo, points, points).astype(int) - photo).max() <= 1
    assert np.array_equal(true_flow_warp(photo, np.zeros((24, 24, 2), np.float32)), photo)


def test_landmarks_carry_the_picture_along(photo: np.ndarray) -> None:
    points = grid(0.3)
    bent = landmark_affine(photo, points, points + np.float32([6 / 48, -4 / 48]))
    inside = slice(30, 66)
    expected = np.roll(photo, (-4, 6), (0, 1))
    assert np.abs(bent[inside, inside].astype(int) - expected[inside, inside]).max() <= 1
    assert np.abs(bent[0].astype(int) - photo[0]).mean() < 2  # the border stays


def test_closed_lids_do_not_break_the_triangles(photo: np.ndarray) -> None:
    points = np.concatenate([grid(0.3), grid(0.3)])
    assert np.abs(landmark_affine(photo, points, points).astype(int) - photo).max() <= 1


def test_flow_points_back_to_the_source(photo: np.ndarray) -> None:
    flow = np.full((24, 24, 2), (8 * 2 / 96, 0), np.float32)  # every pixel comes from 8 px to its right
    assert np.array_equal(true_flow_warp(photo, flow)[:, :80], photo[:, 8:88])


def test_positions_of_corners_are_exact() -> None:
    points = np.array([[4.5, 4.5], [20.5, 6.5], [10.5, 25.5]])
    moved = points + np.array([[3, 1], [-2, 5], [0, -4]])
    mapped = PiecewiseAffine(points, 32)
    where = mapped.positions(moved)
    for (x, y), to in zip(points, moved, strict=True):
        assert where[int(y), int(x)] == pytest.approx(to - 0.5, abs=1e-4)
    assert not mapped.inside[0, 0]
    assert where[3, 30].tolist() == [30, 3]


def test_true_flow_beats_copying_inside_a_made_person(people: Path) -> None:
    _, found = held_out_people(people, 3, 12, 64, 3)
    inside = slice(24, 40)
    for person in found:
        for flow, driving in zip(person.flow, person.driving, strict=True):
            warped, copied = (
                np.abs(picture[inside, inside].astype(int) - driving[inside, inside]).mean()
                for picture in (true_flow_warp(person.source, flow), person.source)
            )
            assert warped < 0.75 * copied

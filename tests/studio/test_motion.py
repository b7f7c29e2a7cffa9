"""Motion samplers: nothing is forgotten, limits hold, the same seed gives the same motion."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.studio.fetch import face_points
from vivant.studio.idle import blinks, idle_motions, wander
from vivant.studio.motion import (
    POSE_LIMIT_DEGREES,
    columns_of,
    neutral_motion,
    sample_motion,
    sample_near,
    session_motions,
    set_gaze_lids,
)

NAMES = tuple(face_points()["expression_names"])


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([sample_motion(NAMES, rng).expression for _ in range(2000)])


def test_each_of_the_53_shapes_occurs(samples: np.ndarray) -> None:
    assert len(NAMES) == 53
    strong = (samples > 0.3).sum(0)
    assert [name for name, count in zip(NAMES, strong, strict=True) if count < 10] == []


def test_weights_are_in_range_and_neutral_faces_exist(samples: np.ndarray) -> None:
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert (
        np.delete(samples, [i for i, n in enumerate(NAMES) if n.startswith("eye")], 1).max(1) == 0
    ).mean() > 0.05


def test_about_a_third_of_the_frames_blink_half_closed_lids_included(samples: np.ndarray) -> None:
    lids = samples[:, columns_of("eyeBlink", NAMES)].max(1)
    assert 0.25 < (lids > 0.1).mean() < 0.45
    assert ((lids > 0.2) & (lids < 0.8)).mean() > 0.08
    assert (lids > 0.84).mean() > 0.1


def test_poses_reach_the_limits_and_stay_within() -> None:
    rng = np.random.default_rng(2)
    angles = np.stack([sample_motion(NAMES, rng).head_angles for _ in range(2000)])
    assert (np.abs(angles) <= POSE_LIMIT_DEGREES).all()
    assert (np.abs(angles).max(0) > 0.9 * POSE_LIMIT_DEGREES).all()


def test_lids_follow_the_gaze() -> None:
    expression = np.zeros(len(NAMES), np.float32)
    set_gaze_lids(expression, np.array([16.0, 10.0]), NAMES)
    assert (
        expression[NAMES.index("eyeLookOut_L")]
        == expression[NAMES.index("eyeLookIn_R")]
        == pytest.approx(0.5)
    )
    assert expression[NAMES.index("eyeLookDown_L")] == pytest.approx(0.5)
    assert expression[NAMES.index("eyeLookUp_L")] == 0


def test_sessions_start_calm_and_repeat_with_their_seed() -> None:
    first, again = (session_motions(NAMES, 6, np.random.default_rng(3)) for _ in range(2))
    assert all((a.expression == b.expression).all() and (a.gaze == b.gaze).all()
               for a, b in zip(first, again, strict=True))  # fmt: skip
    assert np.abs(first[0].head_angles).max() < 10
    assert len(session_motions(NAMES, 1, np.random.default_rng(3))) == 1


def test_sessions_hold_heads_that_hardly_turn_while_lids_fall_and_mouths_open() -> None:
    """Pairs that a driver shows most of the time; without them, networks copy open eyes into every blink."""
    rng = np.random.default_rng(6)
    base = sample_motion(NAMES, rng)
    near = [sample_near(base, NAMES, rng) for _ in range(300)]
    turned = np.stack([np.abs(motion.head_angles - base.head_angles).max() for motion in near])
    assert np.percentile(turned, 95) < 8
    still = [motion for motion, angle in zip(near, turned, strict=True) if angle == 0]
    assert 80 < len(still) < 160
    assert all((motion.shift_cm == base.shift_cm).all() for motion in still)
    lids = np.stack([motion.expression[columns_of("eyeBlink", NAMES)].max() for motion in still])
    jaws = np.stack([motion.expression[NAMES.index("jawOpen")] for motion in still])
    assert (lids > 0.8).sum() > 5
    assert np.unique(jaws).size > 10


def test_unknown_shape_is_an_error() -> None:
    with pytest.raises(KeyError, match="noSuch"):
        columns_of("noSuch", NAMES)


def test_clips_start_neutral_move_smoothly_and_blink() -> None:
    motions = idle_motions(NAMES, 150, 25.0, np.random.default_rng(4), 0.6)
    angles = np.stack([motion.head_angles for motion in motions])
    assert np.abs(angles[:8]).max() < 0.5
    assert np.abs(angles).max() <= 15
    assert np.abs(np.diff(angles, axis=0)).max() < 4
    lids = np.stack([motion.expression for motion in motions])[:, NAMES.index("eyeBlink_L")]
    assert (lids > 0.95).any()
    assert (neutral_motion(NAMES).expression == 0).all()


def test_curves_repeat_with_their_seed() -> None:
    assert (
        wander(50, 25, 1.0, np.random.default_rng(5)) == wander(50, 25, 1.0, np.random.default_rng(5))
    ).all()
    assert (
        blinks(50, 25, 0.5, np.random.default_rng(5)) == blinks(50, 25, 0.5, np.random.default_rng(5))
    ).all()

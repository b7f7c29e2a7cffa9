"""The pose of the rigid part of the face: exact on turned points, and nearly untouched by a rendered jaw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vivant.evaluation.faces import FaceFinder
from vivant.evaluation.metrics import pose_error, rigid_pose
from vivant.evaluation.metrics.pose import GAIN, NEUTRAL, RIGID_POINTS
from vivant.studio.face_model import face_model_path, load_face_model, rotation_matrix
from vivant.studio.identity import make_look, make_person
from vivant.studio.motion import columns_of, neutral_motion
from vivant.studio.renderer import Renderer


def turned(*angles: float) -> np.ndarray:
    mesh = np.random.default_rng(0).normal(size=(468, 3))
    mesh[list(RIGID_POINTS)] = NEUTRAL
    # The studio's y points up and its z towards the camera.
    return 70 * mesh * [1, -1, -1] @ rotation_matrix(*angles).T * [1, -1, -1] + [120, 90, 5]


def test_angles_are_those_of_the_turn() -> None:
    angles = [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 25), (-25, 10, 15), (20, 15, -40)]
    found = rigid_pose(np.stack([turned(*each) for each in angles]))
    np.testing.assert_allclose(found * GAIN, angles, atol=1e-3)


def test_only_rigid_points_count_and_missing_faces_stay_missing() -> None:
    open_mouth, missing = turned(5, 6, 7), turned(5, 6, 7)
    others = np.setdiff1d(np.arange(468), RIGID_POINTS)
    open_mouth[others] += 40
    missing[RIGID_POINTS[0]] = np.nan
    before, after, nothing = rigid_pose(np.stack([turned(5, 6, 7), open_mouth, missing]))
    np.testing.assert_array_equal(after, before)
    assert np.isnan(nothing).all()
    np.testing.assert_allclose(pose_error(before[None] + [1, -2, 3], before[None]), [2])


def test_a_rendered_jaw_hardly_nods(face_models: None) -> None:
    if not face_model_path().is_file():
        pytest.skip("the face model is not part of the repository; get it with `vivant studio fetch`")
    model = load_face_model()
    still = neutral_motion(model.expression_names)
    mouth = still.expression.copy()
    mouth[columns_of("jawOpen", model.expression_names)] = 1
    talking = replace(still, expression=mouth)
    renderer = Renderer(model, make_look(model, make_person(model, 12, 0), 0, 192, 0))
    poses = [np.array([0, pitch, 0], np.float32) for pitch in (-12, 0, 12)]
    motions = [replace(each, head_angles=pose) for pose in poses for each in (still, talking)]
    faces = FaceFinder().faces(
        [np.ascontiguousarray(renderer.render(each).rgba[..., :3]) for each in motions]
    )
    rigid, whole = (faces.quantities[name].reshape(3, 2) for name in ("pitch", "pitch_mesh"))
    assert np.abs(np.diff(rigid)).mean() < 0.6 * np.abs(np.diff(whole)).mean()
    assert rigid[2, 0] - rigid[0, 0] == pytest.approx(24, abs=6)

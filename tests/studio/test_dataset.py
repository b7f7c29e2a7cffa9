"""Sessions on disk, and a small rendered one where the face model exists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio.camera import Camera, project_keypoints
from vivant.studio.dataset import (
    Session,
    list_sessions,
    part_mask,
    read_session,
    render_dataset,
    render_session,
    session_path,
    write_session,
)
from vivant.studio.face_model import FaceModel, rotation_matrix
from vivant.studio.flow import flow
from vivant.studio.identity import eye_opening, make_person
from vivant.studio.parts import Part

MakeQuadSession = Callable[..., Session]
SQUARE = np.array([[10.0, 10], [40, 10], [40, 40], [10, 40]])


def assert_same(a: Session, b: Session) -> None:
    assert a.info == b.info
    for item in fields(Session):
        if item.name != "info":
            left, right = getattr(a, item.name), getattr(b, item.name)
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right, err_msg=item.name)


def test_round_trip_and_listing(tmp_path: Path, quad_session: MakeQuadSession) -> None:
    session = quad_session(np.stack([SQUARE, SQUARE + 2])[:, None], np.zeros((2, 1)), [Part.FACE])
    path = session_path(tmp_path, 7, 0)
    write_session(path, session)
    assert_same(read_session(path), session)
    assert list_sessions(tmp_path) == [path]
    mask = part_mask(session, 0)
    assert mask[10, 10] == Part.FACE
    assert mask[0, 0] == 255
    assert [p.name for p in tmp_path.iterdir()] == ["0007_0.safetensors"]


def test_missing_session_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="vivant studio render"):
        read_session(tmp_path / "0001_0.safetensors")


@pytest.mark.parametrize("size", [30, 34, 1280])
def test_sizes_that_do_not_work_are_refused(tmp_path: Path, size: int) -> None:
    """A session's points end at 1023 pixels; larger pictures had wrong truth in their last fifth."""
    with pytest.raises(InputError, match=f"size {size} does not work"):
        render_dataset(tmp_path, [0], size=size)


def test_projection_form_equals_the_camera() -> None:
    rng = np.random.default_rng(0)
    canonical, delta = rng.normal(size=(10, 3)), rng.normal(size=(10, 3)) * 0.1
    rotation = rotation_matrix(30, -10, 5).astype(np.float64)
    origin = np.array([4.0, -3, -80])
    camera = Camera(400.0, 256)
    projection, distance = camera.head_projection(origin)
    direct = camera.project(((canonical + delta) * 10) @ rotation.T + origin)[:, :2]
    formula = project_keypoints(canonical, delta, rotation, projection, distance, camera.principal_point)
    np.testing.assert_allclose(formula, direct, atol=1e-3)


@pytest.fixture(scope="module")
def rendered(face_model: FaceModel) -> Session:
    return render_session(face_model, make_person(face_model, 13, 0), 0, 5, 96, 0)  # short hair, a beard


def test_keypoints_follow_the_projection_formula(rendered: Session) -> None:
    centre = rendered.info.size / 2
    for frame in range(5):
        projected = project_keypoints(rendered.canonical, rendered.delta[frame], rendered.rotation[frame],
                                      rendered.projection[frame], rendered.camera_distance[frame],
                                      (centre, centre))  # fmt: skip
        assert np.abs(projected - rendered.keypoint_xy[frame]).max() < 0.1


def test_rendered_session_is_complete_and_plausible(rendered: Session) -> None:
    assert rendered.rgba.shape == (5, 96, 96, 4)
    assert rendered.canonical.shape == (81, 3)
    coverage = rendered.rgba[..., 3] / 255
    assert 0.2 < coverage.mean() < 0.9
    assert (rendered.rgba[..., :3].max(-1) <= rendered.rgba[..., 3].astype(int) + 1).all()
    shown = set(rendered.triangle_part[rendered.triangle_id[rendered.triangle_id >= 0]].tolist())
    assert {Part.FACE, Part.HEAD, Part.EYE_L, Part.EYE_R, Part.CLOTHES} <= shown
    assert rendered.keypoint_visible.mean() > 0.5
    assert rendered.triangles.max() < rendered.vertex_xy.shape[1]


def test_flow_to_itself_is_nothing_and_visible(rendered: Session) -> None:
    still, visible = flow(rendered, 1, 1, 0, 0, 96, 48)
    assert np.abs(still).max() < 1e-6
    assert visible.mean() > 0.99


def test_warping_by_the_flow_brings_the_driving_frame_back(rendered: Session) -> None:
    size = rendered.info.size
    # Some pairs of a session hardly differ.
    other = int(np.argmax(np.abs(rendered.angles - rendered.angles[0]).sum(1)))
    field, visible = flow(rendered, 0, other, 0, 0, size, size // 2)
    rows, columns = np.mgrid[: size // 2, : size // 2] * 2 + 1
    x = np.clip(np.rint(columns + field[..., 0] * size / 2).astype(int), 0, size - 1)
    y = np.clip(np.rint(rows + field[..., 1] * size / 2).astype(int), 0, size - 1)
    driving, source = (rendered.rgba[k, ..., :3].astype(float).mean(-1) for k in (0, other))
    face = visible & (rendered.triangle_id[0] >= 0)
    face[face] &= rendered.triangle_part[rendered.triangle_id[0][face]] == Part.FACE
    assert face.sum() > 100
    warped = np.abs(source[y, x] - driving[rows, columns])[face].mean()
    still = np.abs(source[rows, columns] - driving[rows, columns])[face].mean()
    assert warped < 0.5 * still


def test_rendering_is_deterministic_and_resumes(face_model: FaceModel, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    paths = render_dataset(tmp_path / "a", [3], looks=1, frames=1, size=64,
                           progress=lambda done, total: calls.append((done, total)))  # fmt: skip
    render_dataset(tmp_path / "b", [3], looks=1, frames=1, size=64, workers=2)
    assert calls == [(1, 1)]
    assert_same(read_session(paths[0]), read_session(session_path(tmp_path / "b", 3, 0)))
    written = paths[0].stat().st_mtime_ns
    render_dataset(tmp_path / "a", [3], looks=1, frames=1, size=64)
    assert paths[0].stat().st_mtime_ns == written


def test_a_full_blink_closes_the_eyes_of_everybody(face_model: FaceModel) -> None:
    blink = [face_model.expression_index[name] for name in ("eyeBlink_L", "eyeBlink_R")]
    for number in range(3):
        person = make_person(face_model, number, 0)
        expression = np.zeros(53, np.float32)
        expression[blink] = person.blink_gain
        vertices = face_model.posed(person.shape, expression, np.zeros(2), person.eye_centres)
        assert -0.05 < eye_opening(face_model, vertices) < 0
        assert eye_opening(face_model, person.shape) > 0.15


def test_lids_stay_outside_the_eyeball(face_model: FaceModel) -> None:
    person = make_person(face_model, 2, 0)  # whose eyeballs would show through closed lids
    expression = np.zeros(53, np.float32)
    for name in ("eyeBlink_L", "eyeBlink_R"):
        expression[face_model.expression_index[name]] = person.blink_gain
    vertices = face_model.posed(person.shape, expression, np.array([10.0, 5.0]), person.eye_centres)
    for side in (0, 1):
        centre = person.eye_centres[side]
        corneal = np.linalg.norm(vertices[face_model.pupils[side]] - centre)
        forward = vertices[face_model.lids[side]] - centre
        over_pupil = forward @ (vertices[face_model.pupils[side]] - centre) / np.linalg.norm(forward, axis=1)
        assert np.linalg.norm(forward, axis=1)[over_pupil > 0.995 * corneal].min(initial=np.inf) > corneal

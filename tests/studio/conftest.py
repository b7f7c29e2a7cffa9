"""What the studio's tests share: the face model where it exists, and a tiny made-up session."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("numba", reason="the studio needs the extra `studio`")

from vivant.studio.dataset import POSITION_SCALE, Session, SessionInfo
from vivant.studio.face_model import KEYPOINT_NAMES, FaceModel, face_model_path, load_face_model
from vivant.studio.parts import PART_NAMES, Part

SIZE = 64

MakeQuadSession = Callable[[np.ndarray, np.ndarray, list[Part]], Session]


@pytest.fixture(scope="session")
def face_model() -> FaceModel:
    if not face_model_path().is_file():
        pytest.skip("the face model is not part of the repository; get it with `vivant studio fetch`")
    return load_face_model()


def quad_session(corners: np.ndarray, depth_mm: np.ndarray, parts: list[Part]) -> Session:
    """Frames of flat quads: corners [N, Q, 4, 2] in pixels (in order round the quad), depth [N, Q]."""
    frames, quads = corners.shape[:2]
    triangles = np.concatenate(
        [[[4 * q, 4 * q + 1, 4 * q + 2], [4 * q, 4 * q + 2, 4 * q + 3]] for q in range(quads)]
    )
    xy = corners.reshape(frames, -1, 2)
    ids = np.full((frames, SIZE // 2, SIZE // 2), -1, np.int32)
    nearest = np.full(ids.shape, np.inf)
    for frame in range(frames):
        for f, triangle in enumerate(triangles):
            a, b, c = xy[frame, triangle]
            base = np.array([b - a, c - a]).T
            for row in range(SIZE // 2):
                for column in range(SIZE // 2):
                    u, v = np.linalg.solve(base, [2 * column + 1 - a[0], 2 * row + 1 - a[1]])
                    depth = depth_mm[frame, f // 2]
                    if u >= 0 and v >= 0 and u + v <= 1 and depth < nearest[frame, row, column]:
                        ids[frame, row, column], nearest[frame, row, column] = f, depth
    names = ("jawOpen",)
    info = SessionInfo(7, 0, 0, SIZE, KEYPOINT_NAMES, names, PART_NAMES, "test", 900.0, 100.0)
    count = len(KEYPOINT_NAMES)
    rng = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return rng.normal(size=(frames, *shape)).astype(np.float32)

    return Session(
        info=info,
        rgba=rng.integers(0, 255, (frames, SIZE, SIZE, 4), dtype=np.uint8),
        triangle_id=ids,
        triangles=triangles.astype(np.int32),
        triangle_part=np.repeat(parts, 2).astype(np.uint8),
        vertex_xy=np.rint(xy * POSITION_SCALE).astype(np.int16),
        vertex_depth=np.repeat(depth_mm, 4, 1).astype(np.int16),
        rotation=some(3, 3),
        projection=some(3),
        camera_distance=some(),
        canonical=some(count, 3)[0],
        delta=some(count, 3),
        keypoint_xy=some(count, 2),
        keypoint_visible=np.ones((frames, count), np.uint8),
        expression=some(1),
        gaze=some(2),
        angles=some(3),
    )


@pytest.fixture(scope="session", name="quad_session")
def quad_session_maker() -> MakeQuadSession:
    return quad_session

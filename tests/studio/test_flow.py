"""Exact flow on flat quads, where the answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vivant.studio.dataset import Session
from vivant.studio.flow import flow
from vivant.studio.parts import Part

SIZE = 64
MakeQuadSession = Callable[..., Session]
SQUARE = np.array([[10.0, 10], [40, 10], [40, 40], [10, 40]])


def test_flow_of_an_affine_motion_is_exact_and_takes_background_as_still(
    quad_session: MakeQuadSession,
) -> None:
    matrix, shift = np.array([[1.1, 0.1], [-0.05, 0.95]]), np.array([3.0, 5.0])
    moved = SQUARE @ matrix.T + shift
    session = quad_session(np.stack([SQUARE, moved])[:, None], np.full((2, 1), 0.0), [Part.FACE])
    result, visible = flow(session, 0, 1, 0, 0, SIZE, SIZE // 2)
    centre = 2.0 * np.stack(np.meshgrid(np.arange(SIZE // 2), np.arange(SIZE // 2)), -1) + 1
    inside = session.triangle_id[0] >= 0
    expected = (centre @ matrix.T + shift - centre) * 2 / SIZE
    np.testing.assert_allclose(result[inside], expected[inside], atol=2 / SIZE / 16)
    assert visible[inside].mean() > 0.95
    assert (result[~inside] == 0).all()
    uncovered = ~inside & (session.triangle_id[1] < 0)
    assert visible[uncovered].all()
    assert not visible[~inside & (session.triangle_id[1] >= 0)].any()


def test_flow_is_in_units_of_the_crop(quad_session: MakeQuadSession) -> None:
    session = quad_session(np.stack([SQUARE, SQUARE + 4])[:, None], np.zeros((2, 1)), [Part.FACE])
    result, _ = flow(session, 0, 1, 16, 16, 16, 4)
    np.testing.assert_allclose(result, 4 * 2 / 16, atol=1e-6)


def test_points_behind_something_nearer_are_not_visible(quad_session: MakeQuadSession) -> None:
    cover_aside, cover_over = SQUARE * 0.5 + [40, 0], SQUARE * 0.5 + 10
    corners = np.stack([np.stack([SQUARE, cover_aside]), np.stack([SQUARE, cover_over])])
    session = quad_session(corners, np.array([[0.0, -100], [0, -100]]), [Part.FACE, Part.HAT])
    _, visible = flow(session, 0, 1, 0, 0, SIZE, SIZE // 2)
    on_face = np.isin(session.triangle_id[0], (0, 1))
    hidden = on_face & (session.triangle_id[1] >= 2)
    assert hidden.any()
    # Cells at the border of the cover look past it.
    inner = hidden.copy()
    inner[1:-1, 1:-1] &= hidden[:-2, 1:-1] & hidden[2:, 1:-1] & hidden[1:-1, :-2] & hidden[1:-1, 2:]
    assert not visible[inner].any()
    assert visible[on_face & ~hidden].all()


def test_hair_layers_do_not_hide_each_other(quad_session: MakeQuadSession) -> None:
    corners = np.stack([np.stack([SQUARE, SQUARE + 100]), np.stack([SQUARE, SQUARE])])
    for part, is_seen in ((Part.HAIR, True), (Part.FACE, False)):
        session = quad_session(corners, np.array([[0.0, -15], [0, -15]]), [part, part])
        _, visible = flow(session, 0, 1, 16, 16, 16, 4)
        assert visible.all() == is_seen

"""The rasterizer on made-up triangles."""

from __future__ import annotations

import numpy as np

from vivant.studio.lighting import bake_transfer
from vivant.studio.raster import FAR, OPAQUE, draw, draw_depth, rasterize_uv, vertex_normals


def drawn(
    screen: np.ndarray, triangles: np.ndarray, size: int = 16, one_sided: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    depth, ids = np.full((size, size), FAR, np.float32), np.full((size, size), -1, np.int32)
    count = len(screen)
    draw(
        screen.astype(np.float32),
        triangles.astype(np.int32),
        np.full(len(triangles), one_sided),
        np.full(len(triangles), OPAQUE, np.float32),
        np.zeros((count, 2), np.float32),
        np.zeros(count, np.float32),
        np.zeros((4, 4), np.float32),
        depth,
        ids,
        np.zeros((size, size), np.uint8),
    )
    return depth, ids


def test_covers_exactly_the_pixel_centres_inside() -> None:
    _, ids = drawn(
        np.array([[2, 3, 5], [12, 3, 5], [12, 13, 5], [2, 13, 5]]), np.array([[0, 1, 2], [0, 2, 3]])
    )
    expected = np.zeros((16, 16), bool)
    expected[3:13, 2:12] = True
    assert ((ids >= 0) == expected).all()


def test_winding_does_not_matter_for_solid_triangles() -> None:
    screen = np.array([[2, 3, 5], [12, 3, 5], [7, 13, 5]])
    assert (drawn(screen, np.array([[0, 1, 2]]))[1] == drawn(screen, np.array([[0, 2, 1]]))[1]).all()


def test_one_sided_triangles_are_seen_from_the_front_only() -> None:
    screen = np.array([[2, 3, 5], [12, 3, 5], [7, 13, 5]])
    assert (drawn(screen, np.array([[0, 1, 2]]), one_sided=True)[1] < 0).all()
    assert (drawn(screen, np.array([[0, 2, 1]]), one_sided=True)[1] >= 0).any()


def test_nearer_triangle_wins_and_depth_is_interpolated() -> None:
    slope = np.array([[0, 0, 2], [16, 0, 18], [16, 16, 18], [0, 16, 2]])
    flat = np.array([[0, 0, 8], [16, 0, 8], [16, 16, 8], [0, 16, 8]])
    depth, ids = drawn(np.concatenate([slope, flat]), np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]]))
    assert (ids[:, :5] < 2).all()
    assert (ids[:, 8:] >= 2).all()
    np.testing.assert_allclose(depth[8, :5], 2 + np.arange(5) + 0.5, atol=1e-4)
    only_depth = np.full((16, 16), FAR, np.float32)
    draw_depth(np.concatenate([slope, flat]).astype(np.float32),
               np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32), only_depth)  # fmt: skip
    np.testing.assert_allclose(only_depth, depth, atol=1e-4)


def test_normals_of_a_tetrahedron_point_outward() -> None:
    vertices = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    triangles = np.array([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]], np.int32)
    normals = np.zeros_like(vertices)
    vertex_normals(vertices, triangles, normals)
    np.testing.assert_allclose(normals, vertices / np.sqrt(3), atol=1e-5)


def test_texture_painting_interpolates() -> None:
    image = np.zeros((8, 8, 1), np.float32)
    corners = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], np.float32)
    rasterize_uv(
        image,
        corners,
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        np.array([[0.0], [1], [1], [0]], np.float32),
    )
    np.testing.assert_allclose(image[..., 0], np.broadcast_to((np.arange(8) + 0.5) / 8, (8, 8)), atol=1e-5)


def test_a_free_surface_receives_all_the_light_and_a_roof_takes_it_away() -> None:
    floor = np.array([[-1, -8, 1], [1, -8, 1], [1, -8, -1], [-1, -8, -1]], np.float32)
    roof = floor * [20, 1, 20] + np.array([0, 3, 0])
    vertices = np.concatenate([floor, roof]).astype(np.float32)
    normals = np.tile(np.array([0, 1, 0], np.float32), (8, 1))
    quads = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    free = bake_transfer(vertices, normals, quads[:2], 128)[:4, 0]
    covered = bake_transfer(vertices, normals, quads, 128)[:4, 0]
    np.testing.assert_allclose(free, 0.282095, rtol=0.05)
    assert (covered < 0.1 * free).all()

"""Crops: equal to the published geometry, and invariant to how the head lies in the picture."""

from __future__ import annotations

import numpy as np
import pytest
from golden import assert_images_close, assert_matrices_close, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from vivant.face import points as names
from vivant.face.crop import (
    ANCHORS,
    average_boxes,
    box_crop,
    crop_square,
    crop_transform,
    driving_box,
    limited_size,
    resize_to_limit,
)

PUBLISHED_SETS = (203, 106, 101, 68, 9, 5)


@pytest.mark.parametrize("count", PUBLISHED_SETS)
@pytest.mark.parametrize("rotate", [True, False])
def test_published_crop(count: int, rotate: bool) -> None:
    points = golden()[f"crop.{count}.pts"]
    name = f"crop.{count}.{'rot' if rotate else 'norot'}"
    crop = crop_transform(points, 64, 2.3, 0.2, -0.125, rotate, published=True)
    assert_matrices_close(crop.image_to_crop, golden()[f"{name}.M_o2c"])
    assert_matrices_close(crop.crop_to_image, golden()[f"{name}.M_c2o"])
    np.testing.assert_allclose(crop.to_crop(points), golden()[f"{name}.pts"], atol=1e-2)
    if f"{name}.img" in golden():
        assert_images_close(crop.apply_bilinear(golden()["crop.image"]), golden()[f"{name}.img"])


@pytest.mark.parametrize("count", PUBLISHED_SETS)
def test_square_honours_vx_where_the_published_crop_drops_it(count: int) -> None:
    points = golden()[f"crop.{count}.pts"]
    square = crop_square(points, 2.3, 0.1, -0.125)
    np.testing.assert_allclose([*square.centre, square.side], golden()[f"rect.{count}"][:3], atol=1e-3)
    assert square.angle == pytest.approx(golden()[f"rect.{count}"][4], abs=1e-5)
    dropped = crop_square(points, 2.3, 0.1, -0.125, published=True)
    assert np.linalg.norm(square.centre - dropped.centre) == pytest.approx(0.1 * square.side)


@pytest.mark.parametrize(
    ("name", "size_px", "scale", "vy"),
    [("crop512.106", 512, 2.3, -0.125), ("landmarkcrop224.106", 224, 1.5, -0.1)],
)
def test_published_sizes(name: str, size_px: int, scale: float, vy: float) -> None:
    crop = crop_transform(golden()["crop.106.pts"], size_px, scale, 0.0, vy)
    assert_matrices_close(crop.image_to_crop, golden()[f"{name}.M_o2c"])
    assert_matrices_close(crop.crop_to_image, golden()[f"{name}.M_c2o"])


def test_published_driving_crop() -> None:
    boxes = []
    for index in range(3):
        points = golden()[f"lmk203.{index}"]
        square = crop_square(points, 2.2, 0.0, -0.1)
        np.testing.assert_allclose(square.corners(rotated=False), golden()[f"drive.{index}.bbox4"], atol=1e-3)
        np.testing.assert_allclose(square.corners(), golden()[f"drive.{index}.bbox_rot4"], atol=1e-3)
        boxes.append(driving_box(points))
    box = average_boxes(boxes)
    np.testing.assert_allclose(box, golden()["drive.global_bbox"], atol=1e-3)
    crop = box_crop(box, 64)
    assert_matrices_close(crop.image_to_crop, golden()["drive.M_o2c"])
    np.testing.assert_allclose(crop.to_crop(golden()["lmk203.0"]), golden()["drive.lmk0"], atol=1e-2)
    assert_images_close(crop.apply_bilinear(golden()["crop.image"]), golden()["drive.img"])


def test_published_input_limits() -> None:
    for height, width, max_dim, division, new_height, new_width in golden()["resize_to_limit"].tolist():
        assert limited_size(height, width, max_dim, division)[2:] == (new_height, new_width)
        image = np.zeros((height, width, 3), np.uint8)
        assert resize_to_limit(image, max_dim, division).shape == (new_height, new_width, 3)


@settings(max_examples=30, deadline=None)
@given(
    count=st.sampled_from([*PUBLISHED_SETS, names.NUM_MESH]),
    angle=st.floats(-2.5, 2.5),
    scale=st.floats(0.3, 4),
    shift=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    vx=st.floats(-0.3, 0.3),
    seed=st.integers(0, 1000),
)
def test_a_moved_head_gives_the_same_crop(
    count: int, angle: float, scale: float, shift: tuple[float, float], vx: float, seed: int
) -> None:
    """Points land on the same pixels of the crop however the head is turned, sized and placed."""
    points = _face_like(count, seed)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn.T + shift
    upright, turned = crop_transform(points, 256, vx=vx), crop_transform(moved, 256, vx=vx)
    np.testing.assert_allclose(turned.to_crop(moved), upright.to_crop(points), atol=0.05)
    np.testing.assert_allclose(turned.to_image(turned.to_crop(moved)), moved, atol=0.05)
    assert turned.side_px == pytest.approx(upright.side_px * scale, rel=1e-4)


def test_mesh_forehead_and_irises_do_not_change_the_crop() -> None:
    points = _face_like(names.NUM_MESH, 1)
    crop = crop_transform(points, 256)
    points[names.FOREHEAD_TOP] -= 200
    with_iris = np.concatenate([points, np.zeros((names.NUM_IRIS, 2))])
    np.testing.assert_array_equal(crop_transform(with_iris, 256).image_to_crop, crop.image_to_crop)


def test_unknown_point_sets() -> None:
    with pytest.raises(ValueError, match="7 points"):
        crop_transform(np.zeros((7, 2)), 256)
    points = _face_like(140, 0)
    np.testing.assert_array_equal(
        crop_square(points).angle, crop_square(np.concatenate([points[:101], points[101:]])).angle
    )


def test_no_direction_means_upright() -> None:
    points = np.tile([[50.0, 60.0]], (5, 1))
    points[2] += [3, 0]
    assert crop_square(points).angle == 0


def test_resized_crop_shows_the_same_square() -> None:
    crop = crop_transform(golden()["crop.106.pts"], 512)
    small = crop.resized(128)
    assert small.side_px == pytest.approx(crop.side_px, rel=1e-5)
    edges = np.array([[-0.5, -0.5], [127.5, 127.5]])
    np.testing.assert_allclose(small.to_image(edges), crop.to_image(edges * 4 + 1.5), atol=1e-3)
    back = small.resized(512)
    np.testing.assert_allclose(back.image_to_crop, crop.image_to_crop, atol=1e-3)


def test_shrinking_averages() -> None:
    """A fine chequerboard becomes grey, not a pattern of its own."""
    board = np.indices((600, 600)).sum(0) % 2 * np.uint8(255)
    image = np.repeat(board[..., None].astype(np.uint8), 3, axis=2)
    crop = box_crop(np.array([50.0, 50.0, 550.0, 550.0]), 100)
    assert np.ptp(crop.apply(image)) <= 12
    assert np.ptp(crop.apply_bilinear(image)) > 200
    gradient = np.repeat(np.linspace(0, 255, 600).astype(np.uint8)[None, :, None], 600, axis=0).repeat(
        3, axis=2
    )
    difference = crop.apply(gradient).astype(int) - crop.apply_bilinear(gradient)
    assert np.abs(difference).max() <= 1


def _face_like(count: int, seed: int) -> np.ndarray:
    """Random points whose eyes and lips are where eyes and lips are."""
    points = np.random.default_rng(seed).uniform([60, 60], [140, 160], (count, 2))
    anchors = ANCHORS.get(count, ANCHORS[101])
    for indices, place in (
        (anchors.eye_left, (80, 90)),
        (anchors.eye_right, (120, 92)),
        (anchors.lip_corners, (101, 135)),
    ):
        points[list(indices)] = place + np.random.default_rng(seed + 1).normal(0, 1, (len(indices), 2))
    return points

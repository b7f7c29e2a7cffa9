"""Paste-back: equal to the published result where asked, and clean at the borders otherwise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from golden import assert_images_close, golden

from vivant.face.crop import Crop, box_crop, crop_transform
from vivant.face.paste import footprint, paste_back, paste_mask


def generated_512() -> np.ndarray:
    return np.kron(golden()["paste.generated_512_blocks"], np.ones((16, 16, 1), np.uint8))


@pytest.mark.parametrize(
    ("image", "points", "case"),
    [("crop.image", "crop.106.pts", "paste"), ("paste2.image", "paste2.pts106", "paste2")],
)
def test_published_result(image: str, points: str, case: str) -> None:
    frame = golden()[image]
    crop = crop_transform(golden()[points], 512)
    assert_images_close(paste_back(frame, generated_512(), crop, published=True), golden()[f"{case}.result"])
    mask = cv2.warpAffine(paste_mask(512), crop.crop_to_image, frame.shape[1::-1]) / 255
    np.testing.assert_allclose(mask, golden()[f"{case}.mask_ori"], atol=1 / 255)


def test_mask_formula() -> None:
    mask = paste_mask(512)
    assert mask[256, 256] == 255
    assert mask[0, 256] == 0
    assert mask[8, 256] == 127
    assert mask[16, 16] == mask[496, 496] == 255
    small = paste_mask(256)
    assert small[8, 128] == 255
    assert small[4, 128] == 127
    assert not small.flags.writeable


@pytest.fixture
def frame() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    return cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC)


def tilted(centre: tuple[float, float], side: float, size_px: int) -> Crop:
    eyes_and_mouth = np.array([[-20, -15], [20, -11], [0, 0], [-14, 22], [14, 25]], np.float64)
    return crop_transform(eyes_and_mouth * side / 110 + centre, size_px)


@pytest.mark.parametrize("size_px", [256, 512])
def test_only_the_footprint_changes(frame: np.ndarray, size_px: int) -> None:
    crop = tilted((150, 120), 90, size_px)
    before = frame.copy()
    result = paste_back(frame, np.zeros((size_px, size_px, 3), np.uint8), crop)
    np.testing.assert_array_equal(frame, before)
    x0, y0, x1, y1 = footprint(crop, 240, 320)
    outside = np.ones(frame.shape[:2], bool)
    outside[y0:y1, x0:x1] = False
    np.testing.assert_array_equal(result[outside], frame[outside])
    middle = crop.to_image(np.full((1, 2), size_px / 2))[0].round().astype(int)
    assert (result[middle[1], middle[0]] == 0).all()


@pytest.mark.parametrize("size_px", [256, 512])
def test_pasting_the_crop_itself_changes_little(frame: np.ndarray, size_px: int) -> None:
    crop = tilted((150, 120), 90, size_px)
    result = paste_back(frame, crop.apply(frame), crop)
    assert np.abs(result.astype(int) - frame).mean() < 1.5


def test_same_colour_stays_exactly() -> None:
    """Rounding, not truncating: no grey level is lost in the border."""
    frame = np.full((240, 320, 3), 201, np.uint8)
    result = paste_back(frame, np.full((256, 256, 3), 201, np.uint8), tilted((160, 120), 90, 256))
    np.testing.assert_array_equal(result, frame)


def test_float_and_uint8_agree(frame: np.ndarray) -> None:
    crop = tilted((150, 120), 90, 256)
    generated = crop.apply(frame[::-1].copy())
    as_float = paste_back(frame, generated.astype(np.float32) / 255, crop)
    np.testing.assert_array_equal(as_float, paste_back(frame, generated, crop))


def test_generated_picture_of_another_size_lands_in_the_same_place(frame: np.ndarray) -> None:
    crop = tilted((150, 120), 160, 512)
    small = crop.resized(256).apply(frame)
    result = paste_back(frame, small, crop)
    assert np.abs(result.astype(int) - frame).mean() < 2


def test_reduced_faces_are_averaged() -> None:
    frame = np.full((100, 100, 3), 127, np.uint8)
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    crop = box_crop(np.array([30.0, 30.0, 70.0, 70.0]), 512)
    result = paste_back(frame, np.repeat(board[..., None], 3, 2), crop)
    assert np.abs(result.astype(int) - 127).max() <= 4


def test_square_beside_the_picture_changes_nothing(frame: np.ndarray) -> None:
    crop = box_crop(np.array([500.0, 500.0, 600.0, 600.0]), 256)
    np.testing.assert_array_equal(paste_back(frame, np.zeros((256, 256, 3), np.uint8), crop), frame)


def test_wrong_shapes_are_refused(frame: np.ndarray) -> None:
    crop = tilted((150, 120), 90, 256)
    with pytest.raises(ValueError, match="square"):
        paste_back(frame, np.zeros((256, 200, 3), np.uint8), crop)
    with pytest.raises(ValueError, match="uint8 frame"):
        paste_back(frame.astype(np.float32), np.zeros((256, 256, 3), np.uint8), crop)

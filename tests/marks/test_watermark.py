"""The watermark: what it survives, what it costs in quality, and that pictures without one are not accused."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from vivant.marks import code, watermark
from vivant.marks.watermark import MISTAKES, THRESHOLD, TILE_PX, Marker, find, scales
from vivant.media.reader import read_clip
from vivant.media.writer import VideoWriter

PAYLOAD = 0xC0FFEE42


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """uint8 (512, 512, 3): a person, a photograph."""
    return np.ascontiguousarray(data.astronaut())


@pytest.fixture(scope="module")
def marked(photo: np.ndarray) -> np.ndarray:
    return Marker(PAYLOAD).mark(photo)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.array(Image.open(buffer))


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def cropped(image: np.ndarray) -> np.ndarray:
    """Without a tenth of its height and of its width."""
    height, width = image.shape[:2]
    return image[round(0.07 * height) : round(0.97 * height), round(0.03 * width) : round(0.93 * width)]


ATTACKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda image: image,
    "JPEG 75": lambda image: jpeg(image, 75),
    "0.75": lambda image: resized(image, 0.75),
    "1.33": lambda image: resized(image, 1.33),
    "0.87": lambda image: resized(image, 0.87),
    "crop": cropped,
    "crop, 1.1, JPEG 75": lambda image: jpeg(resized(cropped(image), 1.1), 75),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_survives(marked: np.ndarray, attack: str) -> None:
    found = find([ATTACKS[attack](marked)])
    assert found.payload == PAYLOAD
    assert found.score > THRESHOLD + 1


def test_it_survives_a_video_of_low_quality(photo: np.ndarray, tmp_path: Path) -> None:
    marker = Marker(PAYLOAD)
    with VideoWriter(tmp_path / "clip.mp4", Fraction(25), 512, 512, crf=28) as writer:
        for index in range(12):
            moving = photo.copy()
            moving[50:300, 130:330] = np.roll(photo[50:300, 130:330], 3 * index, 0)
            writer.write(marker.mark(moving))
    frames = [frame.image for frame in read_clip(tmp_path / "clip.mp4")]
    assert find(frames[::3]).payload == PAYLOAD
    assert find([frames[5]]).payload == PAYLOAD


def test_it_is_hard_to_see_and_always_the_same(photo: np.ndarray, marked: np.ndarray) -> None:
    difference = marked.astype(int) - photo
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 38
    assert np.abs(difference).max() <= 5
    assert (
        np.array_equal(difference[..., 0], difference[..., 1]) or (marked == 0).any() or (marked == 255).any()
    )
    assert np.array_equal(Marker(PAYLOAD).mark(photo), marked)
    assert not np.array_equal(Marker(PAYLOAD + 1).mark(photo), marked)


def test_small_and_odd_pictures_are_marked_too() -> None:
    for height, width in ((1, 1), (37, 300), (256, 255)):
        image = np.full((height, width, 3), 128, np.uint8)
        assert Marker(7).mark(image).shape == image.shape
    small = cv2.resize(data.astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    assert find([Marker(7).mark(small)]).payload == 7
    assert not find([small[:20, :20]]).is_marked
    with pytest.raises(ValueError, match="no picture"):
        find([])


def test_the_threshold_is_what_the_theorem_asks() -> None:
    assert 2 * len(scales()) * TILE_PX**2 == watermark.NUM_HYPOTHESES
    assert watermark.NUM_HYPOTHESES * np.exp(-(THRESHOLD**2) / 2) == pytest.approx(MISTAKES)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_pictures_without_a_mark_are_not_accused(name: str) -> None:
    assert not find([np.ascontiguousarray(getattr(data, name)())]).is_marked


def test_scores_of_unmarked_pictures_keep_below_the_bound() -> None:
    """At many random signs the share of shifts above z is below exp(-z**2 / 2), as Hoeffding says for each."""
    folded = watermark._folded(watermark._residual(np.ascontiguousarray(data.astronaut())), 1.0)
    assert folded is not None
    cells = watermark._cells_of(folded)[1, 2].reshape(-1)
    random = np.random.default_rng(0)
    pilots = cells[: watermark.NUM_PILOTS]
    z = random.choice([-1.0, 1.0], (40_000, len(pilots))).astype(np.float32) @ pilots / np.linalg.norm(pilots)
    for level in (2.0, 3.0, 4.0):
        assert (z > level).mean() < np.exp(-(level**2) / 2)


def test_the_code_corrects_errors_and_knows_when_it_cannot() -> None:
    random = np.random.default_rng(0)
    wrong = accepted = 0
    for _ in range(60):
        payload = int(random.integers(2**32))
        signs = code.encode(payload)
        assert code.decode(signs * 3) == payload
        flipped = signs.copy()
        flipped[random.choice(len(signs), 10, replace=False)] *= -1
        wrong += code.decode(flipped) != payload
        accepted += code.decode(random.normal(size=len(signs))) is not None
    assert wrong <= 6
    assert accepted <= 1
    with pytest.raises(ValueError, match="32 bits"):
        code.encode(2**32)

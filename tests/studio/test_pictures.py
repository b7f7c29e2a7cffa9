"""Backgrounds, damage and sheets: in range, deterministic, and undamaged when nothing is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio.background import compose, gradient, outdoors, room, sample_background
from vivant.studio.dataset import Session, session_path, write_session
from vivant.studio.degrade import Degradation, degrade, sample_degradation
from vivant.studio.parts import Part
from vivant.studio.sheet import dataset_sheet, tile

MakeQuadSession = Callable[..., Session]


@pytest.mark.parametrize("kind", [gradient, room, outdoors])
def test_backgrounds_are_pictures(kind: object) -> None:
    for seed in range(12):
        image = kind(48, np.random.default_rng(seed))  # type: ignore[operator]
        assert image.shape == (48, 48, 3)
        assert np.isfinite(image).all()


def test_backgrounds_repeat_with_their_seed_and_differ_otherwise() -> None:
    a, b, c = (sample_background(48, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (a == b).all()
    assert np.abs(a - c).mean() > 0.02
    assert a.min() >= 0
    assert a.max() <= 1


def test_composing_keeps_the_person_and_shows_the_background() -> None:
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[0] = [200, 100, 50, 255]
    rgba[1] = [100, 50, 25, 128]
    image = compose(rgba, np.full((4, 4, 3), 0.5, np.float32))
    assert image[0, 0].tolist() == [200, 100, 50]
    assert image[1, 0, 0] == pytest.approx(100 + 63.5, abs=1)
    assert image[3, 0].tolist() == [128, 128, 128]


def test_degradation() -> None:
    image = (np.random.default_rng(0).uniform(size=(32, 32, 3)) * 255).astype(np.uint8)
    assert (degrade(image, Degradation(), np.random.default_rng(0)) == image).all()
    damage = Degradation(blur_px=1.0, grain=5.0, jpeg_quality=40, shrink=0.6)
    spoiled = [degrade(image, damage, np.random.default_rng(1)) for _ in range(2)]
    assert (spoiled[0] == spoiled[1]).all()
    assert spoiled[0].shape == image.shape
    assert (spoiled[0] != image).any()
    kinds = [sample_degradation(np.random.default_rng(seed)) for seed in range(100)]
    assert 20 < sum(kind == Degradation() for kind in kinds) < 60


def test_sheets(tmp_path: Path, quad_session: MakeQuadSession) -> None:
    images = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30)]
    assert tile(images, 2).shape == (16, 16, 3)
    assert (tile(images, 2)[8:, 8:] == 255).all()
    with pytest.raises(InputError, match="no sessions"):
        dataset_sheet(tmp_path / "sheet.png", tmp_path)
    square = np.array([[10.0, 10], [40, 10], [40, 40], [10, 40]])
    session = quad_session(square[None, None], np.zeros((1, 1)), [Part.FACE])
    write_session(session_path(tmp_path, 7, 0), session)
    dataset_sheet(tmp_path / "sheet.png", tmp_path, columns=1, size=32)
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture is not None
    assert picture.shape == (32, 32, 3)

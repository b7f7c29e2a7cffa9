"""Pictures of any size in an output whose size does not change."""

from __future__ import annotations

import numpy as np
import pytest

from vivant.media.outlet import fitted


@pytest.mark.parametrize("side", [96, 97, 191, 192, 193, 400])
def test_a_square_fills_a_square(side: int) -> None:
    drawn = fitted(np.full((side, side, 3), 255, np.uint8), 192, 192)
    assert drawn.shape == (192, 192, 3)
    assert drawn.flags.c_contiguous
    assert drawn.min() == 255


def test_a_picture_that_is_a_pixel_too_large_is_cut_and_stays_sharp() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (65, 99, 3), np.uint8)
    assert np.array_equal(fitted(picture, 98, 64), picture[:64, :98])
    assert np.array_equal(fitted(picture[:64, :98], 98, 64), picture[:64, :98])


def test_another_shape_lies_in_the_middle_of_black() -> None:
    drawn = fitted(np.full((50, 100, 3), 255, np.uint8), 200, 200)
    lit = drawn.min(2) == 255
    assert lit[50:150].all()
    assert not lit[:50].any()
    assert not lit[150:].any()

"""Alignment by a few points: the closed form, and the published aligned face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from vivant.engines.flashportrait.motion import ALIGNED_POINTS
from vivant.face.align import similarity, warped

GOLDEN = Path(__file__).resolve().parents[1] / "assets" / "flashportrait_golden.safetensors"
FIVE_OF_222 = [182, 202, 36, 149, 133]


def test_a_similarity_is_found_again() -> None:
    points = np.random.default_rng(0).normal(size=(6, 2)) * 40
    turn, scale = 0.4, 1.7
    matrix = np.array([[np.cos(turn), -np.sin(turn), 5.0], [np.sin(turn), np.cos(turn), -8.0]])
    matrix[:, :2] *= scale
    np.testing.assert_allclose(similarity(points, points @ matrix[:, :2].T + matrix[:, 2]), matrix, atol=1e-9)
    mirrored = similarity(points, points * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0, "faces are turned, never mirrored"
    with pytest.raises(ValueError, match="fall together"):
        similarity(np.ones((5, 2)), points[:5])


def test_the_published_alignment() -> None:
    golden = load_file(GOLDEN)
    matrix = similarity(golden["face.lm222"][FIVE_OF_222], ALIGNED_POINTS * 224)
    np.testing.assert_allclose(matrix, golden["face.umeyama"], atol=1e-4)
    picture = warped(golden["face.img"], matrix, 224)
    assert np.abs(picture[::3, ::3].astype(int) - golden["face.warp224"].astype(int)).max() <= 1

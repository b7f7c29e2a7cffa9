"""The published geometry: outputs of the official LivePortrait code on synthetic inputs (see the metadata)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

PATH = Path(__file__).resolve().parents[1] / "assets" / "face_golden.safetensors"


@lru_cache(maxsize=1)
def golden() -> dict[str, np.ndarray]:
    return load_file(PATH)


def assert_images_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """At most one level on at most one percent of the values."""
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.01


def assert_matrices_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """(2, 3) matrices: linear part within 1e-4, translation within 1e-3."""
    np.testing.assert_allclose(ours[:, :2], theirs[:2, :2], atol=1e-4, rtol=0)
    np.testing.assert_allclose(ours[:, 2], theirs[:2, 2], atol=1e-3, rtol=0)

"""Differences of what networks say about two pictures: embeddings, coefficients, directions."""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-12


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,) cosine similarity of embeddings (T, D): CSIM."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((np.asarray(a, np.float64) * b).sum(-1) / np.maximum(lengths, SMALLEST))


def mean_l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,) mean absolute difference of coefficients (T, D): AED of expression, APD of pose."""
    return np.asarray(np.abs(np.asarray(a, np.float64) - b).mean(-1))


def angular_error(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(T,) degrees between directions (T, 3): MAE of gaze (LivePortrait, arXiv 2407.03168, appendix A)."""
    return np.asarray(np.degrees(np.arccos(np.clip(cosine(a, b), -1, 1))))

"""Two signals over time: does one follow the other, how far, how smoothly."""

from __future__ import annotations

import numpy as np

SMALLEST = 1e-9


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two signals (T,); nan where one of them is constant or T is below 3."""
    if len(a) < 3:
        return float("nan")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > SMALLEST else float("nan")


def amplitude_ratio(signal: np.ndarray, reference: np.ndarray) -> float:
    """Standard deviation of a signal (T,) over that of the reference (T,); nan where the reference is constant."""
    spread = float(np.std(np.asarray(reference, np.float64)))
    return float(np.std(np.asarray(signal, np.float64))) / spread if spread > SMALLEST else float("nan")


def jitter(points: np.ndarray) -> float:
    """Mean length of the second difference x[t+1] - 2 x[t] + x[t-1] of points (T, K, 2), in their unit.

    nan for fewer than three frames. Constant speed scores 0.
    """
    if len(points) < 3:
        return float("nan")
    return float(np.linalg.norm(np.diff(np.asarray(points, np.float64), 2, axis=0), axis=-1).mean())

"""Drift: how a value at the end of a long clip differs from the same value at its beginning, and the curve between."""

from __future__ import annotations

import numpy as np

MAX_POINTS = 256


class Curve:
    """A value per frame over a clip of any length, as at most MAX_POINTS means of equally many frames each.

    When it is full, neighbours are joined, so memory stays and no frame is left out.
    """

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        if max_points < 2 or max_points % 2:
            raise ValueError(f"max_points is an even number of 2 or more, got {max_points}")
        self.max_points = max_points
        self.frames_per_point = 1
        self._values: list[float] = []
        self._sum, self._finite, self._count = 0.0, 0, 0

    def update(self, value: float) -> None:
        """The value of the next frame; nan where there is none."""
        if np.isfinite(value):
            self._sum, self._finite = self._sum + value, self._finite + 1
        self._count += 1
        if self._count == self.frames_per_point:
            self._close()

    def _close(self) -> None:
        self._values.append(self._sum / self._finite if self._finite else float("nan"))
        self._sum, self._finite, self._count = 0.0, 0, 0
        if len(self._values) == self.max_points:
            pairs = np.array(self._values).reshape(-1, 2)
            known = np.isfinite(pairs)
            sums = np.where(known, pairs, 0).sum(1)
            self._values = np.where(known.any(1), sums / np.maximum(known.sum(1), 1), np.nan).tolist()
            self.frames_per_point *= 2

    @property
    def points(self) -> np.ndarray:
        """(P, 2): middle frame index and mean value; the last may be of fewer frames."""
        values = list(self._values)
        middles = [(i + 0.5) * self.frames_per_point - 0.5 for i in range(len(values))]
        if self._count:
            middles.append(len(values) * self.frames_per_point + (self._count - 1) / 2)
            values.append(self._sum / self._finite if self._finite else float("nan"))
        return np.array([middles, values]).T.reshape(-1, 2)


def relative_drift(first: float, last: float) -> float:
    """(last - first) / |first|: -0.05 is a loss of 5 %. nan where there is nothing to compare with."""
    return (last - first) / abs(first) if first and np.isfinite(first) else float("nan")

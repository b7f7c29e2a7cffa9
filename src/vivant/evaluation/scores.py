"""Numbers gathered one by one under two names, for tables of means and for correlations."""

from __future__ import annotations

import numpy as np
from torch import Tensor


class Scores:
    """Values by (row, column), in the order in which they came."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, list[float]]] = {}

    def add(self, row: str, column: str, values: Tensor | float) -> None:
        new = values.tolist() if isinstance(values, Tensor) else [float(values)]
        self._values.setdefault(row, {}).setdefault(column, []).extend(new)

    @property
    def rows(self) -> tuple[str, ...]:
        return tuple(self._values)

    def values(self, row: str, column: str) -> np.ndarray:
        """(N,) float64; empty where nothing came."""
        return np.array(self._values.get(row, {}).get(column, []), np.float64)

    def mean(self, row: str, column: str) -> float:
        """Mean of what is not nan; nan where there is nothing."""
        values = self.values(row, column)
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    def count(self, row: str, column: str) -> int:
        return len(self.values(row, column))

    def num_finite(self, row: str, column: str) -> int:
        return int(np.isfinite(self.values(row, column)).sum())

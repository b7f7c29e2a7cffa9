"""Frechet distance of two sets of features, each taken as a Gaussian: FID of pictures, FVD of short clips.

M. Heusel et al., arXiv 1706.08500, Eq. 6; T. Unterthiner et al., arXiv 1812.01717. Small sets bias it upwards: compare
only where both sets have the same size.
"""

from __future__ import annotations

import numpy as np


class RunningGaussian:
    """Mean and covariance of features that come in parts; what is kept does not grow with their number."""

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self._sum = np.zeros(num_features)
        self._products = np.zeros((num_features, num_features))

    def update(self, features: np.ndarray) -> None:
        """Add features (N, D)."""
        values = np.asarray(features, np.float64)
        self.count += len(values)
        self._sum += values.sum(0)
        self._products += values.T @ values

    @property
    def mean(self) -> np.ndarray:
        """(D,)."""
        return self._sum / max(self.count, 1)

    @property
    def covariance(self) -> np.ndarray:
        """(D, D), over N - 1 as the published code has it."""
        mean = self.mean
        return (self._products - self.count * np.outer(mean, mean)) / max(self.count - 1, 1)


def frechet_distance(a: RunningGaussian, b: RunningGaussian) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); nan where a set has fewer than two members."""
    if min(a.count, b.count) < 2:
        return float("nan")
    # The root's trace is that of (R C2 R)^(1/2) with R = C1^(1/2): symmetric, so no complex parts come up.
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)
    apart = float(np.square(a.mean - b.mean).sum())
    traces = float(np.trace(a.covariance) + np.trace(b.covariance))
    return max(0.0, apart + traces - 2 * float(np.sqrt(crossed).sum()))

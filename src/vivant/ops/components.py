"""Principal components."""

from __future__ import annotations

import torch
from torch import Tensor


def principal(covariance: Tensor, count: int) -> Tensor:
    """The `count` largest, as rows; signs such that the largest entry is positive."""
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :count].T
    largest = vectors.abs().argmax(1, keepdim=True)
    return vectors * vectors.gather(1, largest).sign()

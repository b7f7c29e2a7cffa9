"""Comparing with the golden tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def strided(tensor: Tensor, per_axis: int = 16) -> Tensor:
    """The sample that the golden tensors keep: about `per_axis` entries on every axis but the first."""
    return tensor[
        (slice(None), *(slice(None, None, math.ceil(size / per_axis)) for size in tensor.shape[1:]))
    ]


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """Largest absolute difference."""
    torch.testing.assert_close(ours.float(), theirs, atol=tolerance, rtol=0)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Difference over reference, both as root sums of squares."""
    return float((ours.float() - theirs).norm() / theirs.norm())

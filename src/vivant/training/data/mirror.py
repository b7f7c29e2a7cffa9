"""The 68 points of a face, as a mirror shows them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MIRRORED = np.concatenate(
    [
        np.arange(16, -1, -1),
        np.arange(26, 16, -1),
        np.arange(27, 31),
        np.arange(35, 30, -1),
        [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
        np.arange(54, 47, -1),
        np.arange(59, 54, -1),
        np.arange(64, 59, -1),
        np.arange(67, 64, -1),
    ]
)
"""Which of the 68 points is where each of them is in a mirror."""


def mirrored_too(points: Tensor, side: int) -> Tensor:
    """Points (N, 68, 2) -> (2, N, 68, 2): as they are, and as they are in a mirror."""
    other = points[:, torch.from_numpy(MIRRORED)]
    return torch.stack([points, torch.stack([side - 1 - other[..., 0], other[..., 1]], -1)])

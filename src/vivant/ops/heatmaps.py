"""Points as pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def bumps(points: Tensor, size: int) -> Tensor:
    """Points (B, M, 2) in [-1, 1] -> heatmaps (B, M, size, size): a bump of height 1 at each."""
    middles = (2 * torch.arange(size, device=points.device) + 1) / size - 1
    x, y = ((middles - points[..., axis, None]) * size / 2 for axis in (0, 1))
    return (-(x.square()[..., None, :] + y.square()[..., None]) / 2).exp()

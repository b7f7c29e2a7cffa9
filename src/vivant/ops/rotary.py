"""Rotary embedding (Su et al., arXiv 2104.09864): pairs of channels turn with the place of their token."""

from __future__ import annotations

import torch
from torch import Tensor

Turn = tuple[Tensor, Tensor]
"""Cosines and sines (N, C / 2) of the angles of N places."""


def turn_of(angles: Tensor, dtype: torch.dtype) -> Turn:
    """Angles (N, C / 2), radians, best in float64 -> what turns channels of that dtype."""
    return torch.cos(angles).to(dtype), torch.sin(angles).to(dtype)


def turned_by(x: Tensor, turn: Turn) -> Tensor:
    """Neighbouring channels of x (B, heads, N, C) turned."""
    cos, sin = turn
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Neighbouring channels of x (B, heads, N, C) turned by angles (N, C / 2), radians."""
    return turned_by(x, turn_of(angles, x.dtype))

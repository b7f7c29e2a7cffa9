"""Rotary embedding (Su et al., arXiv 2104.09864): pairs of channels turn with the place of their token."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Neighbouring channels of x (B, heads, N, C) turned by angles (N, C / 2), radians."""
    cos, sin = torch.cos(angles).to(x.dtype), torch.sin(angles).to(x.dtype)
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

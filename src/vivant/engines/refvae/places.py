"""Where tokens of the generator lie, and how far that turns them (3-D rotary embedding, arXiv 2606.01620)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ROPE_BASE = 10000.0


def angles_of(places: Tensor, head_channels: int) -> Tensor:
    """(N, 3) time, row, column -> (N, head_channels / 2): a third of the pairs each, what is left over to time."""
    pairs = head_channels // 2
    shares = (pairs - 2 * (pairs // 3), pairs // 3, pairs // 3)
    parts = []
    for axis, count in enumerate(shares):
        rates = ROPE_BASE ** (-torch.arange(count, device=places.device, dtype=torch.float64) / count)
        parts.append(places[:, axis, None].double() * rates)
    return torch.cat(parts, 1)


def places_of(times: Sequence[int], height: int, width: int, device: torch.device) -> Tensor:
    """(len(times) * height * width, 3). References stand at times -1, -2, ..."""
    grid = torch.cartesian_prod(
        torch.tensor(list(times), device=device),
        torch.arange(height, device=device),
        torch.arange(width, device=device),
    )
    return grid.reshape(-1, 3)


def reference_places(num_references: int, height: int, width: int, device: torch.device) -> Tensor:
    return places_of([-1 - m for m in range(num_references)], height, width, device)

"""Sampling of volumes. Coordinates are in [-1, 1], order x, y, z, always float32.

All sampling is trilinear with zeros outside and align_corners=False, on grids whose end points lie on the
border: the convention of the published networks, in which the identity grid is not quite an identity.
Legend: B batch, C channels, D depth cells, H W cells, M motions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def axis_positions(length: int, device: torch.device) -> Tensor:
    """2 i / (n - 1) - 1 for i in 0..n-1: the end points lie on the border."""
    return torch.arange(length, device=device, dtype=torch.float32) * (2 / (length - 1)) - 1


def identity_grid(size: Sequence[int], device: torch.device) -> Tensor:
    """Coordinates of every cell of a (D, H, W) volume: (D, H, W, 3), last dimension x, y, z."""
    z, y, x = torch.meshgrid(*(axis_positions(length, device) for length in size), indexing="ij")
    return torch.stack([x, y, z], -1)


def shifted_volumes(volume: Tensor, shifts: Tensor) -> Tensor:
    """One volume (B, C, D, H, W) sampled at identity + shift for shifts (B, M, 3): (B, D, H, W, M, C), float32.

    A translation is separable, so trilinear sampling of all cells is one small interpolation matrix per axis.
    """
    batch, channels, depth, height, width = volume.shape
    motions = shifts.shape[1]
    across, down, inward = (
        _shift_matrices(length, shifts[..., axis]) for axis, length in enumerate((width, height, depth))
    )
    x = volume.float().reshape(batch, -1, width) @ across.permute(0, 3, 1, 2).reshape(batch, width, -1)
    x = x.view(batch, -1, height, motions, width).permute(0, 3, 2, 1, 4)
    x = down @ x.reshape(batch, motions, height, -1)
    x = x.view(batch, motions, height, channels, depth, width)
    return torch.einsum("bmoi,bmhciw->bohwmc", inward, x)


def _shift_matrices(length: int, shift: Tensor) -> Tensor:
    """Interpolation matrices of shifts (B, M) along one axis: (B, M, length out, length in)."""
    cells = torch.arange(length, device=shift.device, dtype=torch.float32)
    position = _cell_position(axis_positions(length, shift.device) + shift[..., None], length)
    return (1 - (position[..., None] - cells).abs()).clamp_(min=0)


def _cell_position(coordinate: Tensor, length: int) -> Tensor:
    """[-1, 1] to a position among cells whose centres are 0..length-1 (align_corners=False)."""
    return ((coordinate + 1) * length - 1) / 2


def sample_volume(volume: Tensor, grid: Tensor) -> Tensor:
    """F.grid_sample for a volume (B, C, D, H, W) and a grid (B, D, H, W, 3), in float32, same layout as volume.

    On the CPU as a weighted sum of eight rows of channels, which is several times faster where C is 16 or more. In an
    exported graph the same sum is plain gathers: few ONNX runtimes sample volumes.
    """
    exporting = torch.compiler.is_exporting()
    if volume.is_cuda and not exporting:
        return F.grid_sample(volume.float(), grid, align_corners=False)
    batch, channels = volume.shape[:2]
    rows = volume.permute(0, 2, 3, 4, 1).reshape(-1, channels).float()
    index, weight = _corners(grid, volume.shape[2:])
    if exporting:
        corners = zip(index.unbind(1), weight.unbind(1), strict=True)
        out = torch.stack([rows[row] * share[:, None] for row, share in corners]).sum(0)
    else:
        out = F.embedding_bag(index, rows, per_sample_weights=weight, mode="sum")
    return out.view(batch, *grid.shape[1:4], channels).permute(0, 4, 1, 2, 3)


def _corners(grid: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Row numbers and weights, each (B D H W, 8), of the cells around every sampling point."""
    batch = torch.arange(len(grid), device=grid.device).view(-1, 1, 1, 1, 1)
    index, weight = batch, torch.ones_like(grid[..., :1])
    for length, coordinate in zip(size, grid.flip(-1).unbind(-1), strict=True):
        position = _cell_position(coordinate, length)
        # A huge or infinite coordinate must not overflow the integer; anything past the border weighs nothing.
        position = position.clamp(-2, length + 1)
        low = position.floor()
        fraction = position - low
        cells = torch.stack([low, low + 1], -1)
        inside = (cells >= 0) & (cells < length)
        pair = torch.stack([1 - fraction, fraction], -1) * inside
        cells = cells.clamp(0, length - 1).long()
        index = (index[..., None] * length + cells[..., None, :]).flatten(-2)
        weight = (weight[..., None] * pair[..., None, :]).flatten(-2)
    return index.view(-1, 8), weight.view(-1, 8)

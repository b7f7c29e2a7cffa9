"""GroupNorm of pictures whose channels lie together, (N, rows, C): sums, what they mean per channel, and one pass.

torch's own kernel lays the picture out anew, before and behind, and works in float32 under autocast.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048
PROGRAMS = 1024
"""That sum at a time, if there are rows enough: as many reads must be under way for memory to be busy."""
PARTS, MOST_PARTS, PART_ROWS = 32, 1024, 64
"""Into which the rows of a picture are divided for summing: at least, if there are so many; at most; rows of each."""


@triton.jit
def _sums(x, sums, rows, per_part, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    picture, part = tl.program_id(0), tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    base = x + picture.to(tl.int64) * rows * C
    # Less the first row, so that far from zero nothing is lost by subtracting squares.
    first = tl.load(base + channel, mask=channel < C, other=0.0).to(tl.float32)[None]
    # Rows are summed apart until the end: a sum over rows makes a program's threads wait for each other.
    one, two = tl.zeros((ROWS, BLOCK), tl.float32), tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(0, per_part, ROWS):
        within = start + tl.arange(0, ROWS)
        row = part * per_part + within
        mask = ((within < per_part) & (row < rows))[:, None] & (channel < C)[None]
        v = tl.load(base + row[:, None] * C + channel[None], mask=mask, other=0.0).to(tl.float32)
        v = tl.where(mask, v - first, 0.0)
        one += v
        two += v * v
    place = sums + (picture * tl.num_programs(1) + part) * 2 * C + channel
    tl.store(place, tl.sum(one, 0), mask=channel < C)
    tl.store(place + C, tl.sum(two, 0), mask=channel < C)


@triton.jit
def _affine(x, sums, weight, bias, added, affine, rows, parts, eps,
            C: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
            ADDED: tl.constexpr):  # fmt: skip
    picture, group = tl.program_id(0), tl.program_id(1)
    within = tl.arange(0, BLOCK)
    is_channel = within < SIZE
    channel = group * SIZE + within
    part = tl.arange(0, PARTS)
    mask = (part < parts)[:, None] & is_channel[None]
    place = sums + (picture * parts + part)[:, None] * 2 * C + channel[None]
    one = tl.sum(tl.load(place, mask=mask, other=0.0), 0) / rows
    two = tl.sum(tl.load(place + C, mask=mask, other=0.0), 0) / rows
    first = tl.load(x + picture.to(tl.int64) * rows * C + channel, mask=is_channel, other=0.0).to(tl.float32)
    more = tl.zeros((BLOCK,), tl.float32)
    if ADDED:
        more = tl.load(added + picture * C + channel, mask=is_channel, other=0.0).to(tl.float32)
    middle = first + one + more  # of each channel
    mean = tl.sum(tl.where(is_channel, middle, 0.0), 0) / SIZE
    away = tl.where(is_channel, middle - mean, 0.0)
    spread = tl.sqrt(tl.sum(two - one * one + away * away, 0) / SIZE + eps)
    gain = tl.load(weight + channel, mask=is_channel, other=0.0).to(tl.float32) / spread
    shift = tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32) + (more - mean) * gain
    tl.store(affine + picture * 2 * C + channel, gain, mask=is_channel)
    tl.store(affine + picture * 2 * C + C + channel, shift, mask=is_channel)


@triton.jit
def _apply(
    x, affine, out, rows, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, SILU: tl.constexpr
):
    picture = tl.program_id(1)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    mask = (row < rows)[:, None] & (channel < C)[None]
    place = picture.to(tl.int64) * rows * C + row[:, None] * C + channel[None]
    gain = tl.load(affine + picture * 2 * C + channel, mask=channel < C, other=0.0)
    shift = tl.load(affine + picture * 2 * C + C + channel, mask=channel < C, other=0.0)
    v = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) * gain[None] + shift[None]
    if SILU:
        v = v * tl.sigmoid(v)
    tl.store(out + place, v.to(out.dtype.element_ty), mask=mask)


def group_norm(
    x: Tensor,
    out: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    *,
    silu: bool,
    added: Tensor | None,
) -> None:
    """(N, rows, C). added: (N, C), to all rows of a picture first."""
    pictures, rows, channels = x.shape
    block = triton.next_power_of_2(channels)
    tile = max(1, TILE // block)
    parts = min(
        triton.cdiv(PROGRAMS, pictures),
        max(PARTS, min(rows // PART_ROWS, MOST_PARTS)),
        triton.cdiv(rows, tile),
    )
    per_part = triton.cdiv(rows, parts)
    sums = torch.empty(pictures, parts, 2, channels, dtype=torch.float32, device=x.device)
    affine = torch.empty(pictures, 2, channels, dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        _sums[(pictures, parts)](x, sums, rows, per_part, C=channels, BLOCK=block, ROWS=tile)
        _affine[(pictures, groups)](
            x, sums, weight, bias, weight if added is None else added, affine, rows, parts, eps,
            C=channels, SIZE=channels // groups, BLOCK=triton.next_power_of_2(channels // groups),
            PARTS=triton.next_power_of_2(parts),
            ADDED=added is not None,
        )  # fmt: skip
        _apply[(triton.cdiv(rows, tile), pictures)](
            x, affine, out, rows, C=channels, BLOCK=block, ROWS=tile, SILU=silu
        )

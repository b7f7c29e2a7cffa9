"""Around attention: what turns queries and keys and puts them away; and attention over a handful of frames."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _ask(x, gain_query, gain_key, cosines, sines, query, keys, values, tokens, turns,
         store_row, store_head, store_token, value_row, value_head, value_token, eps,
         HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    token, row = tl.program_id(0), tl.program_id(1)
    head, pair = tl.arange(0, BLOCK)[:, None], tl.arange(0, HALF)[None]
    mask = (head < HEADS) & (pair < HALF)
    width = HEADS * HALF * 2
    source = x + (row * tokens + token).to(tl.int64) * 3 * width + head * (2 * HALF) + 2 * pair
    cos = tl.load(cosines + token * turns + pair).to(tl.float32)
    sin = tl.load(sines + token * turns + pair).to(tl.float32)
    for part in tl.static_range(2):
        gain = gain_query if part == 0 else gain_key
        even = tl.load(source + part * width, mask=mask, other=0.0).to(tl.float32)
        odd = tl.load(source + part * width + 1, mask=mask, other=0.0).to(tl.float32)
        size = tl.sqrt(tl.sum(even * even + odd * odd, 1) / (2 * HALF) + eps)[:, None]
        even = even / size * tl.load(gain + 2 * pair).to(tl.float32)
        odd = odd / size * tl.load(gain + 2 * pair + 1).to(tl.float32)
        if part == 0:
            target = query + ((row * HEADS + head) * tokens + token).to(tl.int64) * (2 * HALF) + 2 * pair
        else:
            target = keys + row.to(tl.int64) * store_row + head * store_head + token * store_token + 2 * pair
        kind = query.dtype.element_ty
        tl.store(target, (even * cos - odd * sin).to(kind), mask=mask)
        tl.store(target + 1, (even * sin + odd * cos).to(kind), mask=mask)
    target = values + row.to(tl.int64) * value_row + head * value_head + token * value_token + 2 * pair
    tl.store(target, tl.load(source + 2 * width, mask=mask, other=0.0), mask=mask)
    tl.store(target + 1, tl.load(source + 2 * width + 1, mask=mask, other=0.0), mask=mask)


def ask(
    x: Tensor,
    norms: tuple[Tensor, Tensor],
    turn: tuple[Tensor, Tensor],
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    eps: float,
) -> None:
    """Tokens' queries, keys and values (B, N, 3 H P): the first two with norm 1 per head and turned; all put away.

    query: (B, H, N, P). keys, values: the same shape, any distance between rows, heads and tokens. turn: (N, P / 2).
    """
    rows, heads, tokens, channels = query.shape
    cosines, sines = turn
    with torch.cuda.device_of(x):
        _ask[(tokens, rows)](
            x, *norms, cosines, sines, query, keys, values, tokens, cosines.stride(0),
            *keys.stride()[:3], *values.stride()[:3], eps,
            HEADS=heads, HALF=channels // 2, BLOCK=triton.next_power_of_2(heads),
        )  # fmt: skip


@triton.jit
def _over_frames(query, key, value, out, cells, stride, num_frames, scale,
                 C: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, FRAMES: tl.constexpr):  # fmt: skip
    cell, head, window = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    frame, channel = tl.arange(0, FRAMES), tl.arange(0, BLOCK)
    mask = (frame < num_frames)[:, None] & (channel < SIZE)[None]
    token = ((window * num_frames + frame).to(tl.int64) * cells + cell)[:, None]
    place = token * stride + head * SIZE + channel[None]
    q = tl.load(query + place, mask=mask, other=0.0)
    k = tl.load(key + place, mask=mask, other=0.0)
    v = tl.load(value + place, mask=mask, other=0.0)
    agree = tl.dot(q, k.T, input_precision="ieee") * scale
    agree = tl.where((frame < num_frames)[None], agree, float("-inf"))
    share = tl.exp(agree - tl.max(agree, 1)[:, None])
    share = share / tl.sum(share, 1)[:, None]
    seen = tl.dot(share.to(v.dtype), v, input_precision="ieee")
    tl.store(out + token * C + head * SIZE + channel[None], seen.to(out.dtype.element_ty), mask=mask)


def over_frames(
    query: Tensor, key: Tensor, value: Tensor, out: Tensor, num_heads: int, num_frames: int
) -> None:
    """Tokens (B F, L, C), the same place in other frames. Queries, keys and values may be slices of longer rows."""
    count, cells, channels = query.shape
    size = channels // num_heads
    assert query.stride(1) == key.stride(1) == value.stride(1)
    with torch.cuda.device_of(query):
        _over_frames[(cells, num_heads, count // num_frames)](
            query, key, value, out, cells, query.stride(1), num_frames, size**-0.5,
            C=channels, SIZE=size, BLOCK=max(16, triton.next_power_of_2(size)),
            FRAMES=max(16, triton.next_power_of_2(num_frames)), num_warps=1,
        )  # fmt: skip

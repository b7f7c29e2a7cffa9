"""Rows of channels: norms with what stands before and behind them in one pass, sums, and gates.

Every tensor here is (rows, C) with rows behind each other. Numbers are float32 between reading and writing.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096
"""Numbers that a program holds."""
LAYER, LENGTH = 0, 1
"""Mean 0 and spread 1; or only length sqrt(C), `refvae.layers.RmsNorm`."""


@triton.jit
def _norm(
    x, added, gate, later, total, out, weight, bias, code, rows, per_frame, num_frames, eps,
    C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, KIND: tl.constexpr, SILU: tl.constexpr,
    ADDED: tl.constexpr, GATED: tl.constexpr, LATER: tl.constexpr, WEIGHTED: tl.constexpr, PLUS_ONE: tl.constexpr,
    BIASED: tl.constexpr, CODED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    is_channel = channel < C
    mask = (row < rows)[:, None] & is_channel[None]
    place = row.to(tl.int64)[:, None] * C + channel[None]
    v = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    if ADDED:
        more = tl.load(added + place, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            more *= tl.load(gate + channel, mask=is_channel, other=0.0).to(tl.float32)[None]
        v += more
        whole = v
        if LATER:
            whole += tl.load(later + channel, mask=is_channel, other=0.0).to(tl.float32)[None]
        tl.store(total + place, whole.to(total.dtype.element_ty), mask=mask)
    if KIND == 0:
        mean = tl.sum(v, 1) / C
        away = tl.where(mask, v - mean[:, None], 0.0)
        v = away / tl.sqrt(tl.sum(away * away, 1) / C + eps)[:, None]
    else:
        # eps is the least length; C ** 0.5 in float32
        length = tl.maximum(tl.sqrt(tl.sum(v * v, 1)), eps)
        v = v * (tl.sqrt(float(C)) / length)[:, None]
    if WEIGHTED:
        gain = tl.load(weight + channel, mask=is_channel, other=0.0).to(tl.float32)
        if PLUS_ONE:
            gain += 1.0
        v *= gain[None]
    if BIASED:
        v += tl.load(bias + channel, mask=is_channel, other=0.0).to(tl.float32)[None]
    if CODED:
        frame = (row // per_frame) % num_frames
        v += tl.load(code + frame[:, None] * C + channel[None], mask=mask, other=0.0).to(tl.float32)
    if SILU:
        v = v * tl.sigmoid(v)
    tl.store(out + place, v.to(out.dtype.element_ty), mask=mask)


def norm(
    x: Tensor,
    out: Tensor,
    *,
    kind: int = LAYER,
    eps: float,
    weight: Tensor | None = None,
    plus_one: bool = False,
    bias: Tensor | None = None,
    silu: bool = False,
    added: Tensor | None = None,
    gate: Tensor | None = None,
    later: Tensor | None = None,
    total: Tensor | None = None,
    code: Tensor | None = None,
    per_frame: int = 1,
) -> None:
    """out = norm(x + gate added), times weight (and 1 + it), plus bias and the code of a row's frame, through SiLU.

    total: receives x + gate added, and `later` (C,) besides, which is not normed. code: (frames, C), each for
    `per_frame` rows, over and over.
    """
    channels = x.shape[-1]
    rows = x.numel() // channels
    block = triton.next_power_of_2(channels)
    tile = max(1, TILE // block)
    with torch.cuda.device_of(x):
        _norm[(triton.cdiv(rows, tile),)](
            x,
            x if added is None else added,
            x if gate is None else gate,
            x if later is None else later,
            x if total is None else total,
            out,
            x if weight is None else weight,
            x if bias is None else bias,
            x if code is None else code,
            rows, per_frame, 1 if code is None else len(code), eps,
            C=channels, BLOCK=block, ROWS=tile, KIND=kind, SILU=silu, ADDED=added is not None,
            GATED=gate is not None, LATER=later is not None, WEIGHTED=weight is not None, PLUS_ONE=plus_one,
            BIASED=bias is not None, CODED=code is not None,
        )  # fmt: skip


@triton.jit
def _plus(x, y, bias, out, rows, C: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
          OTHER: tl.constexpr, BIASED: tl.constexpr, RELU: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    mask = (row < rows)[:, None] & (channel < C)[None]
    place = row.to(tl.int64)[:, None] * C + channel[None]
    v = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    if BIASED:
        v += tl.load(bias + channel, mask=channel < C, other=0.0).to(tl.float32)[None]
    if OTHER:
        v += tl.load(y + place, mask=mask, other=0.0).to(tl.float32)
    if RELU:
        v = tl.maximum(v, 0.0)
    tl.store(out + place, v.to(out.dtype.element_ty), mask=mask)


def plus(x: Tensor, bias: Tensor | None, y: Tensor | None, out: Tensor, *, relu: bool = False) -> None:
    """out = x + bias + y, which may be x itself; nothing below zero with `relu`."""
    channels = x.shape[-1]
    rows = x.numel() // channels
    block = triton.next_power_of_2(channels)
    tile = max(1, TILE // block)
    with torch.cuda.device_of(x):
        _plus[(triton.cdiv(rows, tile),)](
            x, x if y is None else y, x if bias is None else bias, out, rows,
            C=channels, BLOCK=block, ROWS=tile, OTHER=y is not None, BIASED=bias is not None,
            RELU=relu,
        )  # fmt: skip


@triton.jit
def _gated(x, out, count, HALF, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = place < count
    row = place // HALF
    source = x + row * HALF + place  # the first half of a row twice as long
    value = tl.load(source, mask=mask, other=0.0).to(tl.float32)
    gate = tl.load(source + HALF, mask=mask, other=0.0).to(tl.float32)
    v = value * 0.5 * gate * (1.0 + tl.math.erf(gate * 0.7071067811865476))
    tl.store(out + place, v.to(out.dtype.element_ty), mask=mask)


def gated(x: Tensor, out: Tensor) -> None:
    """Rows (2 C) -> (C): the first half times GELU of the second."""
    block = 2048
    with torch.cuda.device_of(x):
        _gated[(triton.cdiv(out.numel(), block),)](x, out, out.numel(), out.shape[-1], BLOCK=block)

"""Growing pictures: channels become pixels or frames and a shortcut is added (refvae), or pixels are repeated.

Pictures are (T, H, W, C), channels last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096


@triton.jit
def _to_space(y, x, out, places, width, C: tl.constexpr, BLOCK: tl.constexpr, PLACES: tl.constexpr,
              IN: tl.constexpr, REPEATS: tl.constexpr, SHORT: tl.constexpr):  # fmt: skip
    place = (tl.program_id(0) * PLACES + tl.arange(0, PLACES))[:, None, None]
    channel, corner = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, 4)[None, None, :]
    mask = (place < places) & (channel < C) & (corner < 4)
    source = channel * 4 + corner
    far = place.to(tl.int64)
    v = tl.load(y + far * (4 * C) + source, mask=mask, other=0.0).to(tl.float32)
    if SHORT:
        v += tl.load(x + far * IN + source // REPEATS, mask=mask, other=0.0).to(tl.float32)
    # Rows of all frames lie behind each other, so a frame is no more than many rows.
    row, column = far // width, far % width
    pixel = (2 * row + corner // 2) * (2 * width) + 2 * column + corner % 2
    tl.store(out + pixel * C + channel, v.to(out.dtype.element_ty), mask=mask)


def to_space(y: Tensor, x: Tensor | None, out: Tensor) -> None:
    """y (T, H, W, 4 C) -> out (T, 2 H, 2 W, C), plus x (T, H, W, C') with its channels repeated and laid out alike."""
    channels, width = out.shape[-1], y.shape[2]
    places, block = y.numel() // y.shape[-1], triton.next_power_of_2(channels)
    tile = max(1, TILE // (4 * block))
    entering = channels if x is None else x.shape[-1]
    with torch.cuda.device_of(y):
        _to_space[(triton.cdiv(places, tile),)](
            y, y if x is None else x, out, places, width, C=channels, BLOCK=block, PLACES=tile,
            IN=entering, REPEATS=4 * channels // entering, SHORT=x is not None,
        )  # fmt: skip


@triton.jit
def _to_time(y, x, out, pixels, width, height, C: tl.constexpr, BLOCK: tl.constexpr, PIXELS: tl.constexpr,
             IN: tl.constexpr, REPEATS: tl.constexpr):  # fmt: skip
    frame = tl.program_id(1)
    pixel = (tl.program_id(0) * PIXELS + tl.arange(0, PIXELS))[:, None, None]
    channel, second = tl.arange(0, BLOCK)[None, :, None], tl.arange(0, 2)[None, None, :]
    mask = (pixel < pixels) & (channel < C) & (second < 2)
    far = frame.to(tl.int64) * pixels + pixel
    v = tl.load(y + far * (2 * C) + channel * 2 + second, mask=mask, other=0.0).to(tl.float32)
    row, column = pixel // width, pixel % width
    small = (frame * (height // 2) + row // 2).to(tl.int64) * (width // 2) + column // 2
    source = (channel * 4 + (row % 2) * 2 + column % 2) // REPEATS
    v += tl.load(x + small * IN + source, mask=mask, other=0.0).to(tl.float32)
    target = ((2 * frame + second).to(tl.int64) * pixels + pixel) * C + channel
    tl.store(out + target, v.to(out.dtype.element_ty), mask=mask)


def to_time(y: Tensor, x: Tensor, out: Tensor) -> None:
    """y (T, H, W, 2 C) -> out (2 T, H, W, C), plus x (T, H / 2, W / 2, C') as in `to_space`, twice in time."""
    frames, height, width, _ = y.shape
    channels, pixels = out.shape[-1], height * width
    block = triton.next_power_of_2(channels)
    tile = max(1, TILE // (2 * block))
    with torch.cuda.device_of(y):
        _to_time[(triton.cdiv(pixels, tile), frames)](
            y, x, out, pixels, width, height, C=channels, BLOCK=block, PIXELS=tile,
            IN=x.shape[-1], REPEATS=4 * channels // x.shape[-1],
        )  # fmt: skip


@triton.jit
def _doubled(x, out, places, width, C: tl.constexpr, BLOCK: tl.constexpr, PLACES: tl.constexpr):
    place = tl.program_id(0) * PLACES + tl.arange(0, PLACES)
    channel = tl.arange(0, BLOCK)[None]
    mask = (place < places)[:, None] & (channel < C)
    v = tl.load(x + place.to(tl.int64)[:, None] * C + channel, mask=mask, other=0.0)
    row, column = place // width, place % width
    for corner in tl.static_range(4):
        pixel = (2 * row + corner // 2).to(tl.int64) * (2 * width) + 2 * column + corner % 2
        tl.store(out + pixel[:, None] * C + channel, v, mask=mask)


def doubled(x: Tensor, out: Tensor) -> None:
    """x (T, H, W, C) -> out (T, 2 H, 2 W, C), each pixel four times."""
    channels, width = x.shape[-1], x.shape[2]
    places, block = x.numel() // channels, triton.next_power_of_2(channels)
    tile = max(1, TILE // block)
    with torch.cuda.device_of(x):
        _doubled[(triton.cdiv(places, tile),)](x, out, places, width, C=channels, BLOCK=block, PLACES=tile)


@triton.jit
def _beside(own, theirs, out, length, whole, frames, stride, row, head, token,
            C: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr):  # fmt: skip
    picture, number = tl.program_id(1), tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    channel, is_own = tl.arange(0, BLOCK)[None], (number < length)[:, None]
    mask = (number < whole)[:, None] & (channel < C)
    first = picture.to(tl.int64)
    mine = (first * length + number)[:, None] * stride + channel
    other = (first // frames * row + (number - length).to(tl.int64) * token)[:, None]
    other += channel // SIZE * head + channel % SIZE
    v = tl.load(own + mine, mask=mask & is_own, other=0.0).to(out.dtype.element_ty)
    w = tl.load(theirs + other, mask=mask & (number >= length)[:, None], other=0.0).to(out.dtype.element_ty)
    tl.store(out + (first * whole + number)[:, None] * C + channel, tl.where(is_own, v, w), mask=mask)


def beside(own: Tensor, theirs: Tensor, out: Tensor) -> None:
    """own (N, L, C), theirs (B, heads, M, P), one for N / B pictures each -> out (N, L + M, C), own first.

    own may be a slice of longer rows.
    """
    (pictures, length, channels), (rows, _, _, size) = own.shape, theirs.shape
    whole, block = out.shape[1], triton.next_power_of_2(channels)
    tile = max(1, TILE // block)
    with torch.cuda.device_of(own):
        _beside[(triton.cdiv(whole, tile), pictures)](
            own, theirs, out, length, whole, pictures // rows, own.stride(1), *theirs.stride()[:3],
            C=channels, SIZE=size, BLOCK=block, TOKENS=tile,
        )  # fmt: skip

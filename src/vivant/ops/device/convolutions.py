"""A convolution of 3 x 3 over space and 1 or more frames over time as one matrix product, channels last.

Nothing is laid out anew: for each tap of the kernel the tensor memory accelerator fetches a stretch of a row, moved by
the tap, and gives zeros beyond the picture's edge. A program makes `pixels` of one row in `outputs` channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources
from triton.tools.tensor_descriptor import TensorDescriptor

FAILURES = (OutOfResources, CompilationError, RuntimeError)
"""Of a tile that a device has too little memory for, or a compiler does not take."""
DEPTH = 64
"""Channels of one step, or 128 bytes: what the accelerator's swizzle takes."""


class Tile(NamedTuple):
    """What a program makes, and how."""

    pixels: int
    outputs: int
    warps: int
    stages: int


TILES = (
    Tile(128, 128, 4, 3),
    Tile(128, 128, 8, 4),
    Tile(256, 128, 8, 3),
    Tile(256, 128, 8, 4),
    Tile(128, 256, 8, 3),
    Tile(64, 256, 4, 3),
    Tile(64, 128, 4, 4),
    Tile(256, 16, 4, 4),
)
"""Of which the fastest is taken for each shape. The most that one keeps in shared memory is 192 of 227 KB."""
NARROW = 16
"""Output channels that a tile for few has."""


@triton.jit(do_not_specialize=["height", "width", "channels", "num_across"])
def _convolve(
    x, weight, out, bias, added, height, width, channels, num_out, num_across,
    TIMES: tl.constexpr, PIXELS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr,
    BIASED: tl.constexpr, ADDED: tl.constexpr,
):  # fmt: skip
    number = tl.program_id(0)
    stretches = tl.cdiv(width, PIXELS)
    first_out = (number % num_across) * OUTPUTS
    number = number // num_across
    left = (number % stretches) * PIXELS
    row = (number // stretches) % height
    frame = number // stretches // height
    depths = tl.cdiv(channels, DEPTH)
    sums = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    for step in range(0, TIMES * 9 * depths):
        tap = step // depths
        channel = (step - tap * depths) * DEPTH
        time = tap // 9
        down = (tap - time * 9) // 3
        right = tap - time * 9 - down * 3
        a = x.load([frame + time, row + down - 1, left + right - 1, channel]).reshape(PIXELS, DEPTH)
        b = weight.load([first_out, tap, channel]).reshape(OUTPUTS, DEPTH)
        sums = tl.dot(a, b.T, sums)
    pixel, output = left + tl.arange(0, PIXELS), first_out + tl.arange(0, OUTPUTS)
    if BIASED:
        sums += tl.load(bias + output, mask=output < num_out, other=0.0).to(tl.float32)[None]
    mask = (pixel < width)[:, None] & (output < num_out)[None]
    place = ((frame * height + row).to(tl.int64) * width + pixel)[:, None] * num_out + output[None]
    if ADDED:
        sums += tl.load(added + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=mask)


def tiles_for(width: int, num_out: int) -> list[Tile]:
    """Those that waste little. None for narrow pictures, and odd numbers of channels (`convolve`) there is no other."""
    fitting = [tile for tile in TILES if tile.pixels <= max(width, 64) and (width >= 64)]
    if num_out <= NARROW:
        return [tile for tile in fitting if tile.outputs == NARROW]
    return [tile for tile in fitting if NARROW < tile.outputs <= max(num_out, 128)]


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, out: Tensor, tile: Tile
) -> None:
    """x (T + times - 1, H, W, I), weight (O, times * 9, I), added and out (T, H, W, O); I is a multiple of 8."""
    frames, height, width, num_out = out.shape
    across = triton.cdiv(num_out, tile.outputs)
    entering = TensorDescriptor.from_tensor(x, [1, 1, tile.pixels, DEPTH])
    kernel = TensorDescriptor.from_tensor(weight, [tile.outputs, 1, DEPTH])
    with torch.cuda.device_of(x):
        _convolve[(frames * height * triton.cdiv(width, tile.pixels) * across,)](
            entering, kernel, out, out if bias is None else bias, out if added is None else added,
            height, width, x.shape[-1], num_out, across,
            TIMES=weight.shape[1] // 9, PIXELS=tile.pixels, OUTPUTS=tile.outputs, DEPTH=DEPTH,
            BIASED=bias is not None, ADDED=added is not None,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip


@triton.jit
def _gather(products, out, bias, added, frames, height, width, stride,
            OUT: tl.constexpr, BLOCK: tl.constexpr, PIXELS: tl.constexpr, TIMES: tl.constexpr,
            BIASED: tl.constexpr, ADDED: tl.constexpr):  # fmt: skip
    pixel = (tl.program_id(0) * PIXELS + tl.arange(0, PIXELS))[:, None]
    output = tl.arange(0, BLOCK)[None]
    mask = (pixel < frames * height * width) & (output < OUT)
    row, column = (pixel // width) % height, pixel % width
    sums = tl.zeros((PIXELS, BLOCK), tl.float32)
    for tap in tl.static_range(TIMES * 9):
        down, right = tap % 9 // 3 - 1, tap % 3 - 1
        there = (row + down >= 0) & (row + down < height) & (column + right >= 0) & (column + right < width)
        place = (
            (pixel + (tap // 9 * height + down) * width + right).to(tl.int64) * stride + tap * OUT + output
        )
        sums += tl.load(products + place, mask=mask & there, other=0.0).to(tl.float32)
    place = pixel.to(tl.int64) * OUT + output
    if BIASED:
        sums += tl.load(bias + output, mask=output < OUT, other=0.0).to(tl.float32)
    if ADDED:
        sums += tl.load(added + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=mask)


def gather(products: Tensor, bias: Tensor | None, added: Tensor | None, out: Tensor, times: int) -> None:
    """products (T + times - 1, H, W, times * 9 * O or more), tap by tap -> out (T, H, W, O): each from its place."""
    frames, height, width, num_out = out.shape
    pixels = 128
    with torch.cuda.device_of(out):
        _gather[(triton.cdiv(frames * height * width, pixels),)](
            products, out, out if bias is None else bias, out if added is None else added,
            frames, height, width, products.shape[-1],
            OUT=num_out, BLOCK=triton.next_power_of_2(num_out), PIXELS=pixels, TIMES=times,
            BIASED=bias is not None, ADDED=added is not None,
        )  # fmt: skip

"""Matrix products with what follows them: a sum, or half of the outputs times GELU of the other half."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from vivant.ops.device.convolutions import DEPTH, Tile

GATED_TILES = (
    Tile(128, 64, 4, 3),
    Tile(128, 128, 8, 2),
    Tile(128, 128, 8, 4),
    Tile(256, 64, 8, 3),
)
SUM_TILES = (Tile(128, 64, 4, 4), Tile(128, 128, 4, 3), Tile(128, 128, 8, 4), Tile(128, 256, 8, 3))
"""`pixels` are rows. Where half of shared memory is enough, one program writes while its neighbour multiplies."""


@triton.jit
def _twice_normal(x):
    """2 P(X < x) of a normal distribution, what GELU multiplies x / 2 with, within 3e-4; 1e-4 once multiplied.

    An odd polynomial, 0 and 2 beyond 4.1. In 16 bits nothing is lost, and erf took as long as half of the products.
    """
    z = tl.minimum(tl.maximum(x, -4.1), 4.1)
    square = z * z
    sums = -2.2119706066803246e-09 * square + 1.8600208306907007e-07
    sums = sums * square - 6.803533779020654e-06
    sums = sums * square + 0.00014377228217199445
    sums = sums * square - 0.0019751705694943666
    sums = sums * square + 0.018875138834118843
    sums = sums * square - 0.131490096449852
    sums = sums * square + 0.797023594379425
    return sums * z + 1.0


@triton.jit(do_not_specialize=["channels", "num_across"])
def _gated(x, weight, out, bias, rows, channels, half, num_across,
           ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    number = tl.program_id(0)
    first_out = (number % num_across) * OUTPUTS
    first_row = (number // num_across) * ROWS
    value = tl.zeros((ROWS, OUTPUTS), tl.float32)
    gate = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for step in range(0, tl.cdiv(channels, DEPTH)):
        a = x.load([first_row, step * DEPTH])
        b = weight.load([first_out, step * DEPTH])
        c = weight.load([half + first_out, step * DEPTH])
        value = tl.dot(a, b.T, value)
        gate = tl.dot(a, c.T, gate)
    row, output = first_row + tl.arange(0, ROWS), first_out + tl.arange(0, OUTPUTS)
    is_output = output < half
    value += tl.load(bias + output, mask=is_output, other=0.0).to(tl.float32)[None]
    gate += tl.load(bias + half + output, mask=is_output, other=0.0).to(tl.float32)[None]
    value *= 0.5 * gate * _twice_normal(gate)
    place = row.to(tl.int64)[:, None] * half + output[None]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=(row < rows)[:, None] & is_output[None])


def gated(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, tile: Tile) -> None:
    """x (rows, I), weight (2 O, I), bias (2 O,) -> out (rows, O): the first half times GELU of the second."""
    (rows, channels), half = x.shape, out.shape[1]
    across = triton.cdiv(half, tile.outputs)
    entering = TensorDescriptor.from_tensor(x, [tile.pixels, DEPTH])
    matrix = TensorDescriptor.from_tensor(weight, [tile.outputs, DEPTH])
    with torch.cuda.device_of(x):
        _gated[(triton.cdiv(rows, tile.pixels) * across,)](
            entering, matrix, out, bias, rows, channels, half, across,
            ROWS=tile.pixels, OUTPUTS=tile.outputs, DEPTH=DEPTH,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip


@triton.jit(do_not_specialize=["channels", "num_across"])
def _plus(x, weight, out, bias, added, rows, channels, num_out, num_across,
          ROWS: tl.constexpr, OUTPUTS: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    number = tl.program_id(0)
    first_out = (number % num_across) * OUTPUTS
    first_row = (number // num_across) * ROWS
    sums = tl.zeros((ROWS, OUTPUTS), tl.float32)
    for step in range(0, tl.cdiv(channels, DEPTH)):
        a = x.load([first_row, step * DEPTH])
        b = weight.load([first_out, step * DEPTH])
        sums = tl.dot(a, b.T, sums)
    row, output = first_row + tl.arange(0, ROWS), first_out + tl.arange(0, OUTPUTS)
    sums += tl.load(bias + output, mask=output < num_out, other=0.0).to(tl.float32)[None]
    mask = (row < rows)[:, None] & (output < num_out)[None]
    place = row.to(tl.int64)[:, None] * num_out + output[None]
    sums += tl.load(added + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=mask)


def plus(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor, out: Tensor, tile: Tile) -> None:
    """x (rows, I), weight (O, I), bias (O,), added (rows, O) -> out (rows, O)."""
    (rows, channels), num_out = x.shape, out.shape[1]
    across = triton.cdiv(num_out, tile.outputs)
    entering = TensorDescriptor.from_tensor(x, [tile.pixels, DEPTH])
    matrix = TensorDescriptor.from_tensor(weight, [tile.outputs, DEPTH])
    with torch.cuda.device_of(x):
        _plus[(triton.cdiv(rows, tile.pixels) * across,)](
            entering, matrix, out, bias, added, rows, channels, num_out, across,
            ROWS=tile.pixels, OUTPUTS=tile.outputs, DEPTH=DEPTH,
            num_warps=tile.warps, num_stages=tile.stages,
        )  # fmt: skip

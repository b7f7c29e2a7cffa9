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
    value *= 0.5 * gate * (1.0 + tl.math.erf(gate * 0.7071067811865476))
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

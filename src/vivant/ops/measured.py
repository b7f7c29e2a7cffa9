"""Convolutions and products in 16 bits on CUDA: of several ways, the fastest is measured once for each shape.

A library's kernels are good for some shapes and bad for others, by factors, and nobody says which. Pictures and clips
are rows here, (T, H, W, C), channels last. Legend: I and O channels in and out, k frames that a kernel sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from vivant.ops.fused import gated_gelu, pictures_of, rows_of, usable

REPEATS = 3
HOPPER = (9, 0)
"""The first to have what tiles need."""
STEPS = "steps"
FEW_PRODUCTS = 96
"""Of each place, taps times output channels, that are worth writing down."""
Way = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""x (T + k - 1, H, W, I), weight (O, I, k, 3, 3) or (O, I, 3, 3), bias (O,), added -> (T, H, W, O)."""

_limit = ""
_chosen: dict[Any, str] = {}
_packed: Any = WeakTensorKeyDictionary()


def takes(x: Tensor, conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Whether `convolve` can stand for a layer: 3 x 3, stride 1, zeros around the picture and nothing around time."""
    kernel, padding = conv.kernel_size[-2:], conv.padding[-2:]
    return (
        conv.weight.dtype in (torch.bfloat16, torch.float16)
        and kernel == (3, 3)
        and padding == (1, 1)
        and set(conv.stride) == set(conv.dilation) == {1}
        and conv.groups == 1
        and (len(conv.kernel_size) == 2 or conv.padding[0] == 0)
        and usable(x, conv)
    )


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
    """The fastest way to convolve: x (T + k - 1, H, W, I) -> (T, H, W, O), plus bias (O,) and added (T, H, W, O)."""
    x = x.to(weight.dtype).contiguous()
    key = (x.device, x.dtype, x.shape, weight.shape)
    ways = ways_for(x, weight)
    if key not in _chosen:
        if not x.is_cuda or torch.cuda.is_current_stream_capturing():
            return next(iter(ways.values()))(x, weight, bias, added)
        _chosen[key] = _fastest(ways, x, weight, bias, added)
    return ways[_chosen[key]](x, weight, bias, added)


def convolved(x: Tensor, conv: nn.Conv2d, added: Tensor | None = None) -> Tensor:
    """conv(x) + added, pictures (N, C, H, W), the fastest way where there are several."""
    if takes(x, conv):
        other = None if added is None else rows_of(added)
        return pictures_of(convolve(rows_of(x), conv.weight, conv.bias, other))
    if conv.kernel_size == (1, 1) and added is not None and added.dtype == x.dtype and multiplies(x, conv):
        assert conv.bias is not None
        return pictures_of(_product(rows_of(x), conv.weight[:, :, 0, 0], conv.bias, rows_of(added)))
    if conv.kernel_size == (1, 1) and usable(x, conv):
        y = pictures_of(F.linear(rows_of(x), conv.weight[:, :, 0, 0], conv.bias))
    else:
        y = conv(x)
    return y if added is None else added + y


def gated(x: Tensor, layer: nn.Linear) -> Tensor:
    """(..., I) -> (..., O): the first half of a layer's 2 O outputs times GELU of the second, the fastest way."""
    if multiplies(x, layer):
        return _product(x, layer.weight, layer.bias, None)
    if (
        x.device.type != "cpu" or layer._forward_pre_hooks
    ):  # weights may rest in 8 bits until the layer is called
        return gated_gelu(layer(x))
    # Two products: halves of one lie apart, and GELU of what lies apart takes a CPU several times as long.
    value, gate = (
        F.linear(x, *half) for half in zip(layer.weight.chunk(2), layer.bias.chunk(2), strict=True)
    )
    return value * F.gelu(gate)


def linear(x: Tensor, layer: nn.Linear, added: Tensor) -> Tensor:
    """layer(x) + added, the fastest way."""
    if not multiplies(x, layer) or added.dtype != x.dtype:
        return added + layer(x)
    return _product(x, layer.weight, layer.bias, added)


def summed(x: Tensor, layer: nn.Linear, added: Tensor) -> Tensor:
    """x W + added, without the layer's bias, overwriting `added` where it can; only of what `multiplies`."""
    if added.dtype != x.dtype or not added.is_contiguous():
        return added + F.linear(x, layer.weight)
    added.flatten(0, -2).addmm_(x.flatten(0, -2), layer.weight.t())
    return added


def rectified(x: Tensor, conv: nn.Conv2d, added: Tensor | None = None) -> Tensor:
    """What is above zero of conv(x) + added, pictures (N, C, H, W)."""
    if not takes(x, conv):
        return F.relu(convolved(x, conv, added))
    rows, other = rows_of(x).to(conv.weight.dtype), None if added is None else rows_of(added)
    return pictures_of(by_pictures(rows, conv.weight, conv.bias, other, relu=True))


def multiplies(x: Tensor, layer: nn.Module) -> bool:
    """Whether rows x and a layer can be multiplied as they are."""
    is_half = x.dtype in (torch.bfloat16, torch.float16) and layer.weight.dtype == x.dtype
    return is_half and layer.bias is not None and usable(x, layer)


def _product(x: Tensor, weight: Tensor, bias: Tensor, added: Tensor | None) -> Tensor:
    """Rows (..., I) -> (..., O)."""
    rows = x.contiguous().flatten(0, -2)
    other = None if added is None else added.contiguous().view(len(rows), -1)
    key, ways = (
        (x.device, x.dtype, rows.shape, weight.shape, added is None),
        product_ways(rows, added is None),
    )
    if key not in _chosen and len(ways) > 1 and x.is_cuda and not torch.cuda.is_current_stream_capturing():
        _chosen[key] = _fastest(ways, rows, weight, bias, other)
    return ways[_chosen.get(key, STEPS)](rows, weight, bias, other).view(*x.shape[:-1], -1)


def product_ways(rows: Tensor, is_gated: bool) -> dict[str, Way]:
    """By name; the last is one step after another."""
    from vivant.ops.device.products import GATED_TILES, SUM_TILES

    ways: dict[str, Way] = {}
    if rows.shape[-1] % 8 == 0 and _has_accelerator(rows) and "tiles".startswith(_limit):
        for tile in GATED_TILES if is_gated else SUM_TILES:
            ways["tiles " + " ".join(map(str, tile))] = partial(_product_by_tiles, tile=tile)
    return ways | {STEPS: _product_by_steps}


def _product_by_steps(x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None) -> Tensor:
    y = F.linear(x, weight, bias)
    return gated_gelu(y) if added is None else added + y


def _product_by_tiles(
    x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, *, tile: Any
) -> Tensor:
    from vivant.ops.device.products import gated as compute_gated
    from vivant.ops.device.products import plus

    assert bias is not None
    out = x.new_empty(len(x), len(weight) // (2 if added is None else 1))
    if added is None:
        compute_gated(x, weight, bias, out, tile)
    else:
        plus(x, weight, bias, added, out, tile)
    return out


def _has_accelerator(x: Tensor) -> bool:
    return not x.is_cuda or torch.cuda.get_device_capability(x.device) >= HOPPER


@contextmanager
def limited_to(start: str) -> Iterator[None]:
    """Only ways whose names start like this, if there are any: for benchmarks."""
    global _limit
    before, _limit = _limit, start
    _chosen.clear()
    try:
        yield
    finally:
        _limit = before
        _chosen.clear()


def choices() -> dict[str, str]:
    """What was chosen so far, by shapes: for benchmarks."""
    return {f"{tuple(key[2])} {tuple(key[3])}": name for key, name in _chosen.items()}


def ways_for(x: Tensor, weight: Tensor) -> dict[str, Way]:
    """By name; those of our own first."""
    from vivant.ops.device.convolutions import tiles_for

    ways: dict[str, Way] = {}
    if x.shape[-1] % 8 == 0 and _has_accelerator(x):
        for tile in tiles_for(x.shape[2], len(weight)):
            ways["tiles " + " ".join(map(str, tile))] = partial(by_tiles, tile=tile)
    if weight[:, 0].numel() <= FEW_PRODUCTS:
        ways["products"] = by_products
    ways["pictures"] = by_pictures
    limited = {name: way for name, way in ways.items() if name.startswith(_limit)}
    return limited or ways


def by_tiles(x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, *, tile: Any) -> Tensor:
    """By the kernel of our own."""
    from vivant.ops.device.convolutions import convolve as compute

    taps = weight if weight.dim() == 5 else weight[:, :, None]
    times = taps.shape[2]
    # Nothing moves: weights of a layer that was placed lie like this (vivant.runtime.precision).
    taps = taps.permute(0, 2, 3, 4, 1).reshape(len(weight), times * 9, -1).contiguous()
    out = x.new_empty(len(x) - times + 1, *x.shape[1:3], len(weight))
    compute(x, taps, bias, None if added is None else added.contiguous(), out, tile)
    return out


def by_pictures(
    x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None, *, relu: bool = False
) -> Tensor:
    """By cuDNN, as pictures: of each frame, beside it those before it as more channels. relu: what is above zero."""
    from vivant.ops.device.rows import plus

    if weight.dim() == 5:
        times = weight.shape[2]
        count = len(x) - times + 1
        if times > 1:
            x = torch.cat([x[tap : tap + count] for tap in range(times)], -1)
        weight = beside_each_other(weight)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, None, padding=1).permute(0, 2, 3, 1).contiguous()
    if bias is not None or added is not None or relu:
        plus(y, bias, None if added is None else added.contiguous(), y, relu=relu)
    return y


def by_products(x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None) -> Tensor:
    """For few output channels: all taps' products of each place at once, each then summed where it belongs."""
    from vivant.ops.device.convolutions import gather

    taps = weight if weight.dim() == 5 else weight[:, :, None]
    times, matrix = taps.shape[2], taps.permute(2, 3, 4, 0, 1).flatten(0, 3)
    products = F.linear(x, F.pad(matrix, (0, 0, 0, -len(matrix) % 8)))
    out = x.new_empty(len(x) - times + 1, *x.shape[1:3], len(weight))
    gather(products, bias, None if added is None else added.contiguous(), out, times)
    return out


def beside_each_other(weight: Tensor) -> Tensor:
    """(O, I, k, 3, 3) -> (O, k I, 3, 3), channels last; kept as long as the weight is what it was."""
    version, kept = _packed.get(weight, (None, None))
    if kept is None or version != weight._version:
        made = weight.movedim(2, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        _packed[weight] = (weight._version, made)
        return made
    return kept


def _fastest(ways: dict[str, Way], *given: Any) -> str:
    took = {name: _milliseconds(way, given) for name, way in ways.items()}
    _, weight = given[:2]
    # The library's way stands last, and is taken where nothing else works.
    best = min(reversed(took), key=lambda name: took[name])
    if best != "pictures":
        _packed.pop(weight, None)
    return best


def _milliseconds(way: Way, given: Any) -> float:
    """The least of a few; the first, which may compile, does not count. Never where that fails."""
    from vivant.ops.device.convolutions import FAILURES

    try:
        way(*given)
    except FAILURES:
        return float("inf")
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(REPEATS + 1)]
    marks[0].record()
    for mark in marks[1:]:
        way(*given)
        mark.record()
    marks[-1].synchronize()
    return min(first.elapsed_time(last) for first, last in pairwise(marks))

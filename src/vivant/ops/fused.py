"""Several steps of a network in one pass over memory: on CUDA by kernels of our own, elsewhere as they are written.

Whoever draws asks `usable` first and goes the plain way where it says no; the plain way is what tests compare with.
Tensors of rows have their channels last and lie together in memory: tokens, or pictures as `rows_of` gives them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PLAIN: ContextVar[bool] = ContextVar("plain", default=False)
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@contextmanager
def plainly() -> Iterator[None]:
    """Without kernels of our own in this thread, to compare with."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def usable(x: Tensor, *layers: nn.Module) -> bool:
    """Whether kernels can take x and the weights of these layers: at inference, on CUDA, nothing resting elsewhere."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch.is_grad_enabled() or _PLAIN.get() or not _is_here(x) or not _has_kernels():
        return False
    return all(_is_at_hand(layer, x.device) for layer in layers)


def _is_here(x: Tensor) -> bool:
    return type(x) in (Tensor, nn.Parameter) and x.dtype in _DTYPES and (x.is_cuda or _is_interpreted())


def _is_at_hand(layer: nn.Module, device: torch.device) -> bool:
    """Weights may be fetched by hooks only when a layer is called (vivant.runtime.offload)."""
    if layer._forward_pre_hooks:
        return False
    parameters = layer.parameters(recurse=False)
    return all(_is_here(parameter) and parameter.device == device for parameter in parameters)


@cache
def _has_kernels() -> bool:
    return find_spec("triton") is not None


@cache
def _is_interpreted() -> bool:
    """Triton's own check of kernels on a CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def rows_of(pictures: Tensor) -> Tensor:
    """(B, C, ...) -> (B, ..., C), channels together in memory: a view where they are so already."""
    return pictures.movedim(1, -1).contiguous()


def pictures_of(rows: Tensor) -> Tensor:
    """(B, ..., C) -> (B, C, ...), the same memory."""
    return rows.movedim(-1, 1)


def working_dtype(x: Tensor) -> torch.dtype:
    """What matrices multiply in, which norms may then give at once."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def length_norm(
    rows: Tensor, gamma: Tensor, least: float, *, silu: bool, out: Tensor | None = None
) -> Tensor:
    """Rows with the length sqrt(C), times gamma; `usable` only."""
    from vivant.ops.device.rows import LENGTH, norm

    rows = rows.contiguous()
    out = torch.empty_like(rows) if out is None else out
    norm(rows, out, kind=LENGTH, eps=least, weight=gamma, silu=silu)
    return out


def layer_norm(rows: Tensor, layer: nn.LayerNorm, code: Tensor | None = None, per_frame: int = 1) -> Tensor:
    """LayerNorm over the last axis, and the code (F, C) of the frame that a row is of, one of `per_frame` rows."""
    if not usable(rows, layer):
        y = layer(rows)
        if code is None:
            return y
        frames = y.reshape(-1, len(code), per_frame, y.shape[-1])
        return (frames + code[:, None].to(y.dtype)).view(y.shape)
    from vivant.ops.device.rows import norm

    rows = rows.contiguous()
    out = torch.empty_like(rows, dtype=working_dtype(rows))
    norm(rows, out, eps=layer.eps, weight=layer.weight, bias=layer.bias, code=code, per_frame=per_frame)
    return out


def added_norm(
    rows: Tensor,
    added: Tensor,
    layer: nn.LayerNorm,
    code: Tensor | None = None,
    per_frame: int = 1,
    later: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """rows + added, and `layer_norm` of that; the sum with `later` (C,) besides, which is not normed."""
    if not usable(rows, layer) or rows.dtype != added.dtype:
        rows = rows + added
        normed = layer_norm(rows, layer, code, per_frame)
        return rows if later is None else rows + later.to(rows.dtype), normed
    from vivant.ops.device.rows import norm

    rows = rows.contiguous()
    total, out = torch.empty_like(rows), torch.empty_like(rows, dtype=working_dtype(rows))
    norm(
        rows, out, eps=layer.eps, weight=layer.weight, bias=layer.bias, added=added.contiguous(), later=later,
        total=total, code=code, per_frame=per_frame,
    )  # fmt: skip
    return total, out


def modulated(
    rows: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    added: Tensor | None = None,
    gate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x = rows + gate added; x, and its norm times (1 + scale) plus shift, all of which are (C,); `usable` only."""
    from vivant.ops.device.rows import norm

    rows = rows.contiguous()
    out = torch.empty_like(rows, dtype=working_dtype(rows))
    total = rows if added is None else torch.empty_like(rows)
    norm(
        rows,
        out,
        eps=eps,
        weight=scale,
        plus_one=True,
        bias=shift,
        added=None if added is None else added.contiguous(),
        gate=gate,
        total=total,
    )
    return total, out


def group_norm(x: Tensor, layer: nn.GroupNorm, *, silu: bool = False, added: Tensor | None = None) -> Tensor:
    """GroupNorm of pictures (N, C, ...), to which added (N, C) first; then SiLU."""
    if not usable(x, layer):
        if added is not None:
            x = x + added.view(*added.shape, *[1] * (x.dim() - 2))
        y = layer(x)
        return F.silu(y) if silu else y
    from vivant.ops.device.groups import group_norm as compute

    rows = rows_of(x)
    out = torch.empty_like(rows, dtype=working_dtype(x))
    flat = (len(rows), -1, rows.shape[-1])
    added = None if added is None else added.contiguous()
    compute(
        rows.view(flat), out.view(flat), layer.weight, layer.bias, layer.num_groups, layer.eps,
        silu=silu, added=added,
    )  # fmt: skip
    return pictures_of(out)


def gated_gelu(x: Tensor) -> Tensor:
    """(..., 2 C) -> (..., C): the first half times GELU of the second."""
    if not usable(x):
        value, gate = x.chunk(2, -1)
        return value * F.gelu(gate)
    from vivant.ops.device.rows import gated

    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
    gated(x, out)
    return out


def doubled(x: Tensor) -> Tensor:
    """Pictures (N, C, H, W) -> (N, C, 2 H, 2 W), each pixel four times."""
    if not usable(x):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    from vivant.ops.device.shuffles import doubled as compute

    rows = rows_of(x)
    frames, height, width, channels = rows.shape
    out = rows.new_empty(frames, 2 * height, 2 * width, channels)
    compute(rows, out)
    return pictures_of(out)


def grown_in_space(y: Tensor, x: Tensor | None) -> Tensor:
    """(T, H, W, 4 C) -> (T, 2 H, 2 W, C), plus x (T, H, W, C'), channels repeated, laid out alike; `usable` only."""
    from vivant.ops.device.shuffles import to_space

    frames, height, width, channels = y.shape
    out = y.new_empty(frames, 2 * height, 2 * width, channels // 4)
    to_space(y, x, out)
    return out


def grown_in_time(y: Tensor, x: Tensor) -> Tensor:
    """(T, H, W, 2 C) -> (2 T, H, W, C), plus x (T, H / 2, W / 2, C') as above, in both frames; `usable` only."""
    from vivant.ops.device.shuffles import to_time

    frames, height, width, channels = y.shape
    out = y.new_empty(2 * frames, height, width, channels // 2)
    to_time(y, x, out)
    return out


def beside(own: Tensor, theirs: Tensor) -> Tensor:
    """Keys or values (N, heads, L, P) and others (B, heads, M, P), each for N / B -> (N, heads, L + M, P)."""
    if not usable(own) or theirs.stride(3) != 1:
        return torch.cat([own, theirs.repeat_interleave(len(own) // len(theirs), 0)], 2)
    from vivant.ops.device.shuffles import beside as compute

    rows = own.transpose(1, 2).flatten(2)
    if rows.stride(2) != 1 or rows.stride(0) != rows.shape[1] * rows.stride(1):
        rows = rows.contiguous()  # slices of longer rows are read as they lie
    out = rows.new_empty(len(rows), rows.shape[1] + theirs.shape[2], rows.shape[2])
    compute(rows, theirs, out)
    return out.unflatten(2, own.shape[1::2]).transpose(1, 2)


def temporal_attention(query_key_value: Any, num_heads: int, num_frames: int) -> Tensor:
    """Each cell looks at itself in the other frames: three of (B F, L, C) -> (B F, L, C); `usable` only."""
    from vivant.ops.device.attention import over_frames

    query, key, value = query_key_value
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    over_frames(query, key, value, out, num_heads, num_frames)
    return out


def asked(query_key_value: Tensor, norms: tuple[Tensor, Tensor], turn: tuple[Tensor, Tensor], keys: Tensor,
          values: Tensor, eps: float) -> Tensor:  # fmt: skip
    """(B, N, 3 H P) -> queries (B, H, N, P); keys and values go to the end of the stores. `usable` only."""
    from vivant.ops.device.attention import ask

    rows, tokens, _ = query_key_value.shape
    query = query_key_value.new_empty(rows, keys.shape[1], tokens, keys.shape[3])
    ask(query_key_value.contiguous(), norms, turn, query, keys[:, :, -tokens:], values[:, :, -tokens:], eps)
    return query

"""What work costs at the least, counted without weights or a GPU: FLOPs, and bytes of what it finds and must read.

Networks run on torch's fake tensors, which have shapes and nothing in them. Everything that was there before the work
began and that it reads counts as often as it is read: weights, caches, tables. Activations do not count: how much of
them ever reaches memory is up to the kernels. Shared by the benchmarks that print floors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

BYTES_PER_NUMBER = 2
"""Half precision, whatever the fake tensors say."""
GIGA, TERA = 1e9, 1e12


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What a device is taken to sustain. Defaults: an H100 in dense bfloat16 and from its memory, not measured."""

    tflops: float = 800.0
    tbytes_per_s: float = 3.35

    def __str__(self) -> str:
        return f"{self.tflops:g} TFLOP/s and {self.tbytes_per_s:g} TB/s"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one part of a call; a multiply-add is two FLOPs."""

    flops: float
    read_bytes: float
    times: int = 1
    """How often a call does it."""

    def compute_ms(self, peak: Peak) -> float:
        return 1000 * self.times * self.flops / (peak.tflops * TERA)

    def memory_ms(self, peak: Peak) -> float:
        return 1000 * self.times * self.read_bytes / (peak.tbytes_per_s * TERA)

    def floor_ms(self, peak: Peak) -> float:
        """No kernels can be faster: computing and reading overlap at best."""
        return max(self.compute_ms(peak), self.memory_ms(peak))


def counted(work: Callable[[], object], times: int = 1) -> Cost:
    """Of some work with fake tensors, done `times` times in a call."""
    # Attention as plain products: the counter does not know the fused kernels of a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, _Reads() as reads:
        work()
    return Cost(flops=counter.get_total_flops(), read_bytes=reads.num_read * BYTES_PER_NUMBER, times=times)


def total_ms(costs: Mapping[str, Cost], peak: Peak) -> float:
    """The floor of parts that do not overlap."""
    return sum(cost.floor_ms(peak) for cost in costs.values())


class _Reads(TorchDispatchMode):
    """Numbers that operators read from tensors that none of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.num_read = 0
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {_storage(x) for x in _tensors((args, kwargs))}
        self._made.update(_storage(x) for x in _tensors(out) if _storage(x) not in given)
        if func.namespace == "aten" and not _is_view(func):  # others only ask, for a tensor's device say
            self.num_read += sum(_num_stored(x) for x in _read(func, args) if _storage(x) not in self._made)
        return out


def _is_view(func: Any) -> bool:
    aliases = [given.alias_info for given in func._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def _read(func: Any, args: Sequence[Any]) -> Iterator[Tensor]:
    """Tensors among the arguments, but for those that are written."""
    for argument, value in zip(func._schema.arguments, args, strict=False):
        if argument.alias_info is None or not argument.alias_info.is_write:
            yield from (x for x in _tensors(value) if x.is_floating_point())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def _num_stored(x: Tensor) -> int:
    """Without what is only repeated by a stride of 0."""
    stored = [size for size, stride in zip(x.shape, x.stride(), strict=True) if stride]
    return int(torch.Size(stored).numel()) if x.numel() else 0

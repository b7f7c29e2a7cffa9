"""How much memory networks would take on a device, counted without weights, device or memory.

Networks are rehearsed with tensors that have shapes and nothing in them (torch's fake tensors), and what lives at the
same time is added up: the very code that will run, not a formula beside it. Where weights lie follows `offload`. What
drivers and allocators take on top (a context, about half a GB; rounding, a few per cent) is not in it. Knows no family.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vivant.runtime import precision
from vivant.runtime.offload import SMALLEST_BYTES, Memory, is_narrowed


@dataclass(frozen=True)
class Part:
    """A stretch of work that one network does."""

    name: str
    network: str
    """Which child of the networks."""
    work: Callable[[], Any]


@dataclass(frozen=True)
class Rehearsal:
    """What a family does from reference to picture, once each."""

    parts: Sequence[Part]
    standing_bytes: int
    """What lies on the device between parts: caches, memories."""


@dataclass(frozen=True)
class Footprint:
    """The most memory at any time, and in which part that is."""

    device_bytes: int
    main_bytes: int
    """Weights that rest in main memory."""
    part: str


def count_modes(
    build: Callable[[], nn.Module], rehearse: Callable[[nn.Module], Rehearsal], dtype: torch.dtype
) -> dict[Memory, Footprint]:
    """Footprints of all ways to keep weights, for networks that work in `dtype`."""
    with torch.device("meta"):
        networks = build().eval().requires_grad_(False)
    precision.place(networks, torch.device("meta"), dtype)
    with FakeTensorMode(), torch.no_grad(), precision.computing(torch.device("cpu"), dtype):
        _materialise(networks)
        rehearsal = rehearse(networks)
        peaks = {part.name: peak_bytes(part.work) for part in rehearsal.parts}
    whole = _bytes(networks)
    out = {}
    for memory in get_args(Memory):
        totals = {
            part.name: _resident(memory, networks, part.network) + peaks[part.name] + rehearsal.standing_bytes
            for part in rehearsal.parts
        }
        worst = max(totals, key=lambda name: totals[name])
        out[memory] = Footprint(totals[worst], whole if memory in ("model", "sequential") else 0, worst)
    return out


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most bytes of tensors, made during the work, that live at the same time."""
    with watching() as watch:
        work()
    return watch.peak_bytes


@contextmanager
def watching() -> Iterator[_Watch]:
    """Count tensors that are made inside."""
    with _Watch() as watch:
        yield watch


class _Watch(TorchDispatchMode):
    """Storages that live, by what torch's operators return."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._living: dict[int, int] = {}
        self._now = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(out):
            self._note(storage, given)
        return out

    def _note(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in self._living or key in given:  # a view, of ours or of what was there before
            return
        self._living[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._living.pop(key, 0)


def made_bytes(tree: Any) -> int:
    """Of all tensors in lists, tuples and dicts."""
    return sum(storage.nbytes() for storage in _storages(tree))


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _materialise(networks: nn.Module) -> None:
    """Fake tensors in place of those on meta: `.to` cannot swap parameters for fake ones."""
    for layer in networks.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            layer._parameters[name] = nn.Parameter(empty, requires_grad=False)
        for name, buffer in layer.named_buffers(recurse=False):
            layer._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _bytes(network: nn.Module) -> int:
    return made_bytes([*network.parameters(), *network.buffers()])


def _resident(memory: Memory, networks: nn.Module, working: str) -> int:
    """Bytes of weights on the device while one of the networks works; as `offload.rest` does it."""
    if memory == "full":
        return _bytes(networks)
    total = 0
    for name, network in networks.named_children():
        largest = 0
        for layer in network.modules():
            size = made_bytes([*layer.parameters(recurse=False), *layer.buffers(recurse=False)])
            if size < SMALLEST_BYTES or (memory == "model" and name == working):
                total += size
            elif memory == "fp8":
                weight = 0
                if isinstance(layer, nn.Linear) and is_narrowed(networks, network, layer):
                    weight = made_bytes(layer.weight)
                    total -= weight - layer.weight.numel()
                total += size
                largest = max(largest, weight)
            else:
                largest = max(largest, size)
        # The layer at work: fetched, or widened.
        total += largest if name == working and memory != "model" else 0
    return total

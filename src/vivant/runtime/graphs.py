"""CUDA graphs: work that is always the same is recorded once and played again, so no host is in its way.

Python takes 200 ms to ask a GPU for what that then does in 85 ms (a block of refvae at full size, H200).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from functools import wraps
from threading import Lock
from typing import Any
from weakref import ref

import torch
from torch import Tensor

Work = Callable[[], object]
WARM_UPS = 3
"""Before recording: libraries choose their kernels and take their memory."""


def recorded(work: Work, undo: Work = lambda: None, pool: Any = None) -> Work:
    """The work, recorded once; calling the result plays it on the current stream.

    Everything that it reads and writes must stay where it is, and it must ask nothing of the host.

    Args:
        undo: takes back what trying and recording changed, in Python or on the device.
        pool: of memory, shared by recordings of which one runs at a time.
    """
    stream, caches = torch.cuda.Stream(), torch.is_autocast_cache_enabled()
    # What autocast keeps is gone when its context ends; a recording would go on reading there.
    torch.set_autocast_cache_enabled(False)
    try:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
                undo()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            work()
        undo()
    finally:
        torch.set_autocast_cache_enabled(caches)
    return graph.replay


KEPT = 8
"""Recordings of a method, each for inputs of other sizes; the oldest goes first."""


def record_methods(owner: object, names: Iterable[str], *, remembers: bool = False) -> None:
    """Replace an object's methods by recordings with the same signature: one for each set of sizes, made at the first
    such call.

    For methods that read their arguments and return something new, as tensors in tuples, lists and dataclasses. Several
    threads may call them.

    remembers: a tensor that is given twice is copied once, unless torch has counted changes in between. Not for tensors
        that come from users: what other libraries and kernels of our own write is not counted.
    """
    for name in names:
        method = getattr(owner, name)
        kept = _Recorded(method, remembers)
        setattr(owner, name, wraps(method)(lambda *args, kept=kept, **named: kept.answer(args, named)))


class _Place:
    """Where a recording reads one of its arguments."""

    def __init__(self, given: Tensor):
        self.tensor = given.clone()
        self.last: ref[Tensor] | None = None
        self.changes = 0

    def fill(self, given: Tensor) -> None:
        """Copy what is given, unless it lies here already: a portrait's references go into every call."""
        counted = not given.is_inference()
        if counted and self.last is not None and self.last() is given and self.changes == given._version:
            return
        self.tensor.copy_(given)
        self.last, self.changes = (ref(given), given._version) if counted else (None, 0)


class _Recorded:
    def __init__(self, method: Callable[..., Any], remembers: bool):
        self.method, self.remembers = method, remembers
        self.kept: dict[Any, tuple[list[_Place], list[Any], Work]] = {}
        self.lock = Lock()
        # One for all sizes: what is played is copied before another is.
        self.pool: Any = None

    def answer(self, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        given = (args, tuple(sorted(named.items())))
        now: list[Tensor] = []
        key = (_taken_apart(given, now), tuple((tensor.shape, tensor.dtype) for tensor in now))
        # What is played reads and writes the same places, so one call after another; the device keeps their order.
        with self.lock:
            if key not in self.kept:
                self.kept[key] = self._record(given, now)
                for old in list(self.kept)[:-KEPT]:
                    del self.kept[old]
            places, results, play = self.kept[key]
            for place, tensor in zip(places, now, strict=True):
                if self.remembers:
                    place.fill(tensor)
                else:
                    place.tensor.copy_(tensor)
            play()
            return _put_together(results[0], iter([tensor.clone() for tensor in _tensors(results[0])]))

    def _record(self, given: Any, now: list[Tensor]) -> tuple[list[_Place], list[Any], Work]:
        places = [_Place(tensor) for tensor in now]
        results: list[Any] = []
        args, named = _put_together(given, iter([place.tensor for place in places]))

        def work() -> None:
            results[:] = [self.method(*args, **dict(named))]  # those of warming up are let go

        self.pool = self.pool or torch.cuda.graph_pool_handle()
        return places, results, recorded(work, pool=self.pool)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _taken_apart(value, found)
    return found


def _taken_apart(value: Any, tensors: list[Tensor]) -> Any:
    """What is left of a value without its tensors, which go into the list; can be compared."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if is_dataclass(value) and not isinstance(value, type):
        parts = [(field.name, _taken_apart(getattr(value, field.name), tensors)) for field in fields(value)]
        return (type(value), *parts)
    if isinstance(value, (tuple, list)):
        return (type(value), *(_taken_apart(part, tensors) for part in value))
    return value


def _put_together(value: Any, tensors: Any) -> Any:
    """The same value with other tensors, in order."""
    if isinstance(value, Tensor):
        return next(tensors)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _put_together(getattr(value, field.name), tensors) for field in fields(value)}
        return replace(value, **parts)
    if isinstance(value, (tuple, list)):
        parts_ = [_put_together(part, tensors) for part in value]
        return type(value)(*parts_) if hasattr(value, "_fields") else type(value)(parts_)
    return value

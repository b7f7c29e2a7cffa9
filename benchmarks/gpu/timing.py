"""How the benchmarks of this folder take time on a CUDA device."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from vivant.ops.fetching import as_pixels

Call = Callable[[], object]
CUDNN_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


class Stopwatch:
    """Marks moments of a device's work: CUDA events, so nothing waits for it; on a CPU, the time of the wall."""

    def __init__(self, device: torch.device):
        self.is_cuda = device.type == "cuda"
        self.marks: list[Any] = []

    def mark(self) -> None:
        """Now, in the order of the current stream."""
        if self.is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(perf_counter())

    def laps_ms(self) -> list[float]:
        """Between neighbouring marks, which are forgotten; waits for the device."""
        marks, self.marks = self.marks, []
        if not self.is_cuda:
            return [1000 * (end - start) for start, end in pairwise(marks)]
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairwise(marks)]


def shown(frames: Tensor) -> Tensor:
    """Frames (T, 3, H, W) as whoever shows or writes them takes them: 8 bits, (T, H, W, 3), on the host."""
    return as_pixels(frames).cpu()


def milliseconds(
    call: Call, device: torch.device, repeats: int = 30, warm_up: int = 3, seconds: float = 4.0
) -> float:
    """Median over repeats, after warming up; fewer repeats, three or more, where they would take longer than that."""
    for _ in range(warm_up):
        call()
    watch, times = Stopwatch(device), []
    while len(times) < repeats and (len(times) < 3 or sum(times) < 1000 * seconds):
        watch.mark()
        call()
        watch.mark()
        times += watch.laps_ms()
    return statistics.median(times)


def kernels(call: Call, device: torch.device, count: int = 12) -> dict[str, float]:
    """Milliseconds of what takes most of the device's time in one call, by name."""
    cuda = device.type == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU]
    call()
    with torch.profiler.profile(activities=kinds) as profile:
        call()
        if cuda:
            torch.cuda.synchronize()
    took = {
        event.key: (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1000
        for event in profile.key_averages()
    }
    return dict(sorted(took.items(), key=lambda item: -item[1])[:count])


@contextmanager
def tuned() -> Iterator[None]:
    """Convolutions try out their kernels when they first see a shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def backend(device: torch.device) -> str:
    """What compiles: on a CPU, where only Python is checked, nothing that would call a compiler for minutes."""
    return "inductor" if device.type == "cuda" else "aot_eager"


def compile_parts(network: nn.Module, device: torch.device, kinds: tuple[type[nn.Module], ...]) -> None:
    """Modules of these kinds, each by itself: those of one shape share their kernels, so this takes a fraction of the
    time that the whole takes, and loses only what could be fused across their borders."""
    torch._dynamo.config.recompile_limit = 64
    for module in network.modules():
        if isinstance(module, kinds):
            module.compile(dynamic=False, fullgraph=True, backend=backend(device))


def forget_compiled(network: nn.Module) -> None:
    """Back to plain calls."""
    for module in network.modules():
        module._compiled_call_impl = None

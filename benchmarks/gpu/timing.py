"""How the benchmarks of this folder take time on a CUDA device."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch

Call = Callable[[], object]


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


def milliseconds(call: Call, repeats: int = 30, warm_up: int = 5) -> float:
    """Median over CUDA events, after warming up."""
    for _ in range(warm_up):
        call()
    watch, times = Stopwatch(torch.device("cuda")), []
    for _ in range(repeats):
        watch.mark()
        call()
        watch.mark()
        times += watch.laps_ms()
    return statistics.median(times)


def graphed(call: Call, undo: Call = lambda: None, pool: Any = None) -> Call:
    """The call, captured once and replayed.

    undo: takes back what trying and capturing the call changed, in Python or on the device; pool: of memory, shared by
    graphs of which one runs at a time.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
            undo()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        call()
    undo()
    return graph.replay

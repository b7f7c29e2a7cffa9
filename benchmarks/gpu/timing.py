"""How the benchmarks of this folder take time on a CUDA device."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

Call = Callable[[], object]


def milliseconds(call: Call, repeats: int = 30, warm_up: int = 5) -> float:
    """Median over CUDA events, after warming up."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def graphed(call: Call) -> Call:
    """The call, captured once and replayed."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay

"""Counters of the server as Prometheus reads them. Numbers only: no addresses, names or tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

LATENCY_BUCKETS_SECONDS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


@dataclass
class Histogram:
    """Cumulative buckets."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0
    count: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.bounds)

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1
        for index, bound in enumerate(self.bounds):
            self.counts[index] += value <= bound


@dataclass
class Metrics:
    """What happened since the server began."""

    sessions: int = 0
    """Live sessions at present."""
    sessions_total: int = 0
    refused_total: int = 0
    """Sessions that found no room."""
    frames_shown_total: int = 0
    frames_dropped_total: int = 0
    uploads_total: int = 0
    uploads_refused_total: int = 0
    uploads_deleted_total: int = 0
    jobs_finished_total: int = 0
    jobs_failed_total: int = 0
    latency: Histogram = field(default_factory=lambda: Histogram(LATENCY_BUCKETS_SECONDS))
    """Capture to display, as the viewers report it."""

    def text(self, jobs: Mapping[str, int]) -> str:
        """The exposition format, version 0.0.4; `jobs` is how many there are in each state."""
        return "\n".join((*self._lines(jobs), ""))

    def _lines(self, jobs: Mapping[str, int]) -> Iterator[str]:
        for name, value in vars(self).items():
            if isinstance(value, int):
                kind = "counter" if name.endswith("_total") else "gauge"
                yield f"# TYPE vivant_{name} {kind}"
                yield f"vivant_{name} {value}"
        yield "# TYPE vivant_jobs gauge"
        for state, count in sorted(jobs.items()):
            yield f'vivant_jobs{{state="{state}"}} {count}'
        yield "# TYPE vivant_latency_seconds histogram"
        for bound, count in zip(self.latency.bounds, self.latency.counts, strict=True):
            yield f'vivant_latency_seconds_bucket{{le="{bound:g}"}} {count}'
        yield f'vivant_latency_seconds_bucket{{le="+Inf"}} {self.latency.count}'
        yield f"vivant_latency_seconds_sum {self.latency.total:.6f}"
        yield f"vivant_latency_seconds_count {self.latency.count}"

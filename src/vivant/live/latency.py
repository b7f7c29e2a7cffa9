"""Latency from capture to display: its quantiles in constant memory, and a promise about it that is kept or called off.

    keep the promise:  drive less often  ->  draw smaller  ->  say that it cannot be kept

Lag itself can never grow, because queues are bounded (inbox.py); the contract decides what is given up for it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from vivant.engine import StreamSpec
from vivant.errors import InputError

_FINEST_SECONDS, _STEP, _NUM_STEPS = 0.0005, 1.02, 700
"""Histogram: 0.5 ms to 520 s in steps of 2 %."""

TOO_LATE = ((8, 3), (20, 4), (100, 8))
"""Among the last so many frames, at most so many are late: more is no chance where 95 of 100 are in time. Machines that
also do something else delay single frames at every rate, and a lower rate would not help those."""
HASTY_FRAMES, HASTY_SECONDS = 3, 1.0
"""Where frames are rare, so many in this time are enough to give something up, when a quarter of them is late."""
ENOUGH_FRAMES = 20
"""To take something back, or to say that the promise is kept again."""
START_SECONDS = 2.0
"""Of the beginning: decoders, caches and pools of threads are still cold, which says nothing about what can be kept."""
SETTLE_SECONDS = 0.5
"""After a change, frames captured before it still arrive; they are not counted."""
PATIENCE_SECONDS, LONGEST_PATIENCE_SECONDS = 10.0, 160.0
"""How long the promise is kept before something is taken back; doubled whenever that proves a mistake."""
PROVEN = 3.0
"""What was taken back and is given up again within so many times the patience was a mistake."""

RATE_SHARES = (1.0, 0.75, 0.6, 0.54, 0.5, 0.46, 0.42, 0.33)
"""Rungs are close to each other where machines mostly end: on a wide one a rate that could be held is not tried."""
SMALLEST_PX = 192
"""Pictures are not made smaller than this."""


class LatencyMeter:
    """p50, p95 and the largest of any number of latencies, to 2 %."""

    def __init__(self) -> None:
        self.count = 0
        self.max_seconds = 0.0
        self._counts = np.zeros(_NUM_STEPS, np.int64)

    def add(self, seconds: float) -> None:
        step = int(np.log(max(seconds, _FINEST_SECONDS) / _FINEST_SECONDS) / np.log(_STEP))
        self._counts[min(step, _NUM_STEPS - 1)] += 1
        self.count += 1
        self.max_seconds = max(self.max_seconds, seconds)

    def quantile(self, share: float) -> float:
        """Seconds that this share (0 to 1) of all latencies stays below; nan before the first."""
        if self.count == 0:
            return float("nan")
        step = int(np.searchsorted(np.cumsum(self._counts), share * self.count))
        return min(_FINEST_SECONDS * _STEP ** (step + 1), self.max_seconds)


@dataclass(frozen=True)
class Level:
    """What a viewer gets."""

    rate_hz: float
    """Driving frames per second that are drawn at most."""
    side_px: int
    """Longer side of the picture that is sent."""


def check_promise(stream: StreamSpec, rate_hz: float, max_latency_ms: float) -> None:
    """What a family waits for before it answers is more than some promises allow, on any machine. Raises InputError."""
    waits_ms = 1000 * stream.latency_seconds(stream.frame_rate_hz or rate_hz, 0.0)
    if waits_ms > max_latency_ms:
        raise InputError(
            f"this preset answers {waits_ms:.0f} ms after what it is driven by, and the time that drawing takes; "
            f"allow more than the promised {max_latency_ms:.0f} ms with --max-latency {2 * waits_ms:.0f}."
        )


def levels(rate_hz: float, side_px: int, least_hz: float = 0.0) -> tuple[Level, ...]:
    """From the best to the least: first fewer frames, but for the first no fewer than `least_hz`, then smaller ones."""
    rates = [rate_hz, *(rate for share in RATE_SHARES[1:] if (rate := rate_hz * share) >= least_hz)]
    least = min(side_px, SMALLEST_PX)
    sides = [max(least, int(side_px * share) // 2 * 2) for share in (0.75, 0.5, 0.33)]
    smaller = [side for side in dict.fromkeys(sides) if side < side_px]
    return (
        *(Level(rate, side_px) for rate in rates),
        *(Level(rates[-1], side) for side in smaller),
    )


class LatencyContract:
    """At most so many seconds from capture to display, for 95 of 100 frames. Times are of any one clock."""

    def __init__(self, max_seconds: float, ladder: tuple[Level, ...]) -> None:
        if max_seconds <= 0 or not ladder:
            raise ValueError(
                f"max_seconds is positive and the ladder has a level, got {max_seconds}, {ladder}"
            )
        self.max_seconds = max_seconds
        self.kept = True
        """False: not even the last level keeps the promise at present."""
        self._ladder = ladder
        self._index = 0
        self._recent: deque[float] = deque(maxlen=TOO_LATE[-1][0])
        self._recent_since = 0.0
        self._began_at: float | None = None
        self._changed_at = float("-inf")
        self._kept_since: float | None = None
        self._raised_at = float("-inf")
        self._patience = PATIENCE_SECONDS

    @property
    def level(self) -> Level:
        return self._ladder[self._index]

    def observe(self, latency_seconds: float, now_seconds: float) -> bool:
        """One frame was displayed; whether `level` or `kept` changed because of it."""
        if self._began_at is None:
            self._began_at = now_seconds
        if now_seconds < max(self._began_at + START_SECONDS, self._changed_at + SETTLE_SECONDS):
            return False
        if not self._recent:
            self._recent_since = now_seconds
        self._recent.append(latency_seconds)
        if self._is_late(now_seconds):
            return self._give_up_something(now_seconds)
        if len(self._recent) < ENOUGH_FRAMES:
            return False
        mended, self.kept = not self.kept, True
        return self._take_something_back(now_seconds) or mended

    def _is_late(self, now: float) -> bool:
        late = [latency > self.max_seconds for latency in self._recent]
        if any(sum(late[-frames:]) > most for frames, most in TOO_LATE):
            return True
        rare = len(late) >= HASTY_FRAMES and now >= self._recent_since + HASTY_SECONDS
        return rare and sum(late) > len(late) / 4

    def _give_up_something(self, now: float) -> bool:
        self._kept_since = None
        self._recent.clear()
        if self._index == len(self._ladder) - 1:
            broken, self.kept = self.kept, False
            return broken
        if now < self._raised_at + PROVEN * self._patience:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
        self._index += 1
        self._changed_at = now
        return True

    def _take_something_back(self, now: float) -> bool:
        if self._index == 0:
            return False
        self._kept_since = self._kept_since or now
        if now < self._kept_since + self._patience:
            return False
        self._index -= 1
        self._kept_since = None
        self._recent.clear()
        self._changed_at = self._raised_at = now
        return True

"""Run in a process of its own by test_long_animate.py: `vivant ARGUMENTS`, and the peak of its memory in MB behind.

Memory is sampled rather than taken from getrusage, whose maximum is inherited from the process that started this one.
"""

from __future__ import annotations

import sys
from threading import Event, Thread

import psutil

from vivant.cli import main

LOOK_EVERY_SECONDS = 0.02


def watched(arguments: list[str]) -> tuple[int, int]:
    """Exit code and peak resident bytes."""
    process, peaks, ended = psutil.Process(), [0], Event()

    def look() -> None:
        while not ended.wait(LOOK_EVERY_SECONDS):
            peaks[0] = max(peaks[0], process.memory_info().rss)

    watcher = Thread(target=look)
    watcher.start()
    try:
        return main(arguments), peaks[0]
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    code, peak = watched(sys.argv[1:])
    print(peak / 1e6)
    sys.exit(code)

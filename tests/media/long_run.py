"""Run in a process of its own by test_long_clips.py: carry a clip through the whole chain and report peak memory.

Memory is sampled rather than taken from getrusage, whose maximum is inherited from the process that started this one.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import psutil

from vivant.media.overlap import BackgroundWriter, prefetch
from vivant.media.reader import VideoReader
from vivant.media.resample import resample
from vivant.media.writer import VideoWriter

SAMPLE_EVERY_FRAMES = 20


def main(source: Path, target: Path, frame_rate: Fraction) -> None:
    """Read, resample and write `source`, with its sound; print the peak resident memory in MB."""
    process = psutil.Process()
    peak = 0
    with VideoReader(source) as clip:
        writer = VideoWriter(
            target, frame_rate, clip.width, clip.height, preset="ultrafast", audio_from=source
        )
        with BackgroundWriter(writer) as background:
            for index, frame in enumerate(resample(prefetch(clip), frame_rate, end=clip.duration)):
                background.write(frame.image)
                if index % SAMPLE_EVERY_FRAMES == 0:
                    peak = max(peak, process.memory_info().rss)
    print(max(peak, process.memory_info().rss) / 1e6)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Fraction(sys.argv[3]))

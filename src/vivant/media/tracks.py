"""Frames of FFmpeg as a real-time library hands them over, to and from arrays: pictures, and sound of any rate."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from vivant.errors import InputError
from vivant.media.packets import MAX_PACKET_PIXELS

PICTURE_CLOCK_HZ = 90_000
SOUND_HZ = 48_000
SOUND_BLOCK = 960
"""Samples: 20 ms, which is what one packet of sound carries."""


def picture_of(frame: Any, max_pixels: int = MAX_PACKET_PIXELS) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a video frame. Raises InputError for what is larger than allowed."""
    if frame.width * frame.height > max_pixels:
        raise InputError(
            f"a frame of {frame.width}x{frame.height} is more than {max_pixels} pixels; send smaller ones"
        )
    array: np.ndarray = frame.to_ndarray(format="rgb24")
    return array


def frame_of(image: np.ndarray, ticks: int) -> VideoFrame:
    """A video frame (YUV 4:2:0, so an odd row or column is left out) of uint8 RGB (H, W, 3).

    ticks: its time in 1 / PICTURE_CLOCK_HZ seconds.
    """
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = ticks, Fraction(1, PICTURE_CLOCK_HZ)
    return frame


def sound_frame(samples: np.ndarray, rate_hz: int, start: int) -> AudioFrame:
    """A frame of int16 mono (S,) whose first sample is the one of number `start`."""
    frame = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
    return frame


class Mono:
    """Sound frames of any format and rate to float32 mono at one rate, without gaps between frames."""

    def __init__(self, rate_hz: int) -> None:
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)

    def push(self, frame: Any) -> np.ndarray:
        """float32 (S,) in [-1, 1]; S may be 0 while the resampler's filter fills. Raises InputError."""
        frame.pts = None  # what was lost on the way is not filled here
        try:
            parts = [part.to_ndarray()[0] for part in self._resampler.resample(frame)]
        except ValueError as error:
            raise InputError("sound may not change its format within a session") from error
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


class Blocks:
    """Float32 mono at one rate to int16 blocks (SOUND_BLOCK,) at SOUND_HZ, as packets of sound carry them."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz, self._start = rate_hz, 0
        self._resampler = av.AudioResampler(
            format="s16", layout="mono", rate=SOUND_HZ, frame_size=SOUND_BLOCK
        )

    def push(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """The blocks that are full now."""
        whole = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
        frame = sound_frame(whole, self._rate_hz, self._start)
        self._start += len(whole)
        for part in self._resampler.resample(frame):
            yield part.to_ndarray()[0]

"""What a local live run is made of. Imports no network library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vivant.errors import InputError

RATES_HZ, SIDES_PX, LATENCIES_MS = (1, 240), (64, 4096), (1, 60_000)
"""What live streams may be asked for."""


@dataclass(frozen=True, kw_only=True)
class Cast:
    """What is cast where."""

    source: Path
    """Picture of the person to animate."""
    driving: str
    """What moves it: the number of a camera, such as 0, or mic (mic:NAME); or a clip or a sound file, played live."""
    to: str = "live.mp4"
    """Where the pictures go: an .mp4 file, rtmp://SERVER/APP/KEY, window, v4l2, or /dev/video3 (a virtual camera)."""
    face: str = "largest"
    """Face of the source: largest, a number from 0, x,y in pixels, or none where it is an aligned crop."""
    driving_face: str = "largest"
    """Face that drives, in the same words."""
    max_latency_ms: float = 300.0
    """Promise, from capture to output: rate, then size, is given up for it."""
    rate_hz: float = 25.0
    """Frames per second, at most."""
    side_px: int = 720
    """Longer side of the pictures, at most."""
    seconds: float | None = None
    """How long. [default: until Ctrl-C, or the end of the clip]"""
    watermark: bool = True
    """Mark the pixels of every picture, invisibly, as made with vivant."""
    overwrite: bool = False
    """Replace a file that exists."""

    def __post_init__(self) -> None:
        for name, value, (low, high) in (
            ("--fps", self.rate_hz, RATES_HZ),
            ("--side", self.side_px, SIDES_PX),
            ("--max-latency", self.max_latency_ms, LATENCIES_MS),
        ):
            if not low <= value <= high:
                raise InputError(f"{name} is {low} to {high}, got {value:g}.")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"--seconds is more than 0, got {self.seconds:g}; leave it out for no end.")

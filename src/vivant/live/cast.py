"""A local live run: a camera (or a clip played as one) drives a portrait, pictures go to a file or a streaming server.

camera thread --offer--> LiveStream --step (this thread)--> Broadcast
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from vivant.engine import Engine
from vivant.errors import InputError, VivantError
from vivant.live.latency import LatencyMeter
from vivant.live.settings import Cast
from vivant.live.stream import LiveCounts, LiveSettings, LiveStream
from vivant.media.broadcast import Broadcast
from vivant.media.camera import captured

WAIT_SECONDS = 0.002


@dataclass(frozen=True)
class CastReport:
    """What came of it."""

    counts: LiveCounts
    latency: LatencyMeter
    """From capture until the picture was handed to the output."""
    kept: bool
    """Whether the promise holds at the end."""


def cast(
    settings: Cast, engine: Engine[Any, Any, Any, Any, Any], options: Any, stop: Callable[[], bool]
) -> CastReport:
    """Until the clip or the time ends or `stop` says so. Raises VivantError; a file is then not left half-written."""
    payload = secrets.randbits(32) if settings.watermark else None
    wanted = LiveSettings(
        rate_hz=settings.rate_hz,
        side_px=settings.side_px,
        max_latency_ms=settings.max_latency_ms,
        driving_face=_face(settings.driving_face),
        watermark=payload,
    )
    portrait = engine.prepare(settings.source, face=_face(settings.face))
    stream = LiveStream(engine, portrait, options, wanted)
    camera = _Camera(settings.driving, stream)
    height, width = stream.frame_size
    try:
        with Broadcast(settings.to, width, height, settings.rate_hz, overwrite=settings.overwrite) as output:
            camera.start()
            ends = monotonic() + settings.seconds if settings.seconds is not None else float("inf")
            while monotonic() < ends and not stop():
                shown = stream.step()
                for picture in shown:
                    output.write(picture.image, picture.captured_seconds)
                    stream.viewed(monotonic() - picture.captured_seconds)
                if not shown and camera.has_ended.wait(WAIT_SECONDS):
                    break
            if camera.problem is not None:
                raise camera.problem
            if not stream.counts.shown:
                raise InputError(f"{settings.driving} gave no picture; check it.")
        return CastReport(stream.counts, stream.latency, stream.contract.kept)
    finally:
        camera.stop()
        stream.close()


class _Camera:
    """The thread that captures."""

    def __init__(self, driving: str, stream: LiveStream) -> None:
        self.has_ended = threading.Event()
        self.problem: VivantError | None = None
        self._driving, self._stream = driving, stream
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vivant-camera", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        try:
            for image, seconds in captured(self._driving):
                if self._stopped:
                    break
                self._stream.offer(image, seconds)
        except VivantError as error:
            self.problem = error
        finally:
            self.has_ended.set()


def _face(choice: str) -> str | None:
    return None if choice.strip().lower() == "none" else choice

"""A local live run: a camera or a voice drives a portrait; pictures go to a file, a server, a window, a virtual camera.

camera thread     --offer--> LiveStream --step (this thread)--> Outlet
microphone thread --say----> Speaker ----step (this thread)---> Outlet, with the sound of each picture
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np

from vivant.engine import Engine
from vivant.errors import InputError, VivantError
from vivant.live.latency import LatencyMeter, check_promise
from vivant.live.settings import Cast
from vivant.live.speaker import Speaker
from vivant.live.stream import LiveCounts, LiveSettings, LiveStream
from vivant.media.broadcast import Broadcast
from vivant.media.camera import captured
from vivant.media.loopback import Loopback
from vivant.media.microphone import heard
from vivant.media.outlet import Outlet
from vivant.media.window import Window
from vivant.voice import Voice

WAIT_SECONDS = 0.002
BEHIND_BLOCKS = 2
"""Pictures whose sound waits already; with more, a picture is left out so that sound is not."""


@dataclass(frozen=True)
class CastReport:
    """What came of it."""

    counts: LiveCounts
    latency: LatencyMeter
    """From capture until the picture was handed to the output."""
    kept: bool
    """Whether the promise holds at the end."""


def cast(
    settings: Cast,
    engine: Engine[Any, Any, Any, Any, Any],
    options: Any,
    stop: Callable[[], bool],
    voice: Voice | None = None,
) -> CastReport:
    """Until the driving or the time ends, the window is closed or `stop` says so.

    voice: None where a camera or a clip drives, and for a family that is driven by sound. Raises VivantError; a file is
    then not left half-written.
    """
    spec = engine.stream if voice is None else voice.stream
    check_promise(spec, settings.rate_hz, settings.max_latency_ms)
    is_heard = voice is not None or engine.hears
    run = _Spoken(settings, engine, options, voice) if is_heard else _Seen(settings, engine, options)
    height, width = run.frame_size
    try:
        with open_outlet(settings, (width, height), run.rate_hz, run.sample_rate_hz) as outlet:
            run.capture.start()
            ends = monotonic() + settings.seconds if settings.seconds is not None else float("inf")
            while monotonic() < ends and outlet.is_open and not stop():
                outlet.attend()
                if not run.step(outlet) and run.capture.has_ended.wait(WAIT_SECONDS) and not run.has_more:
                    break
            if run.capture.problem is not None:
                raise run.capture.problem
            if not run.report().counts.shown:
                raise InputError(f"{settings.driving} gave no picture; check it.")
        return run.report()
    finally:
        run.close()


def open_outlet(settings: Cast, size: tuple[int, int], rate_hz: float, sample_rate_hz: int | None) -> Outlet:
    """What `settings.to` names; size: width and height. Raises VivantError."""
    if settings.to == "window":
        return Window("vivant", *size)
    if settings.to == "v4l2" or settings.to.startswith("/dev/"):
        return Loopback(None if settings.to == "v4l2" else settings.to, *size)
    return Broadcast(settings.to, size, rate_hz, sample_rate_hz=sample_rate_hz, overwrite=settings.overwrite)


class _Seen:
    """A camera, or a clip played as one, drives."""

    sample_rate_hz: int | None = None
    has_more = True
    """Whether frames wait, or pictures are owed: until the driving has ended and all were shown."""

    def __init__(self, settings: Cast, engine: Engine, options: Any) -> None:
        wanted = LiveSettings(
            rate_hz=settings.rate_hz,
            side_px=settings.side_px,
            max_latency_ms=settings.max_latency_ms,
            driving_face=_face(settings.driving_face),
            watermark=_payload(settings),
        )
        portrait = engine.prepare(settings.source, face=_face(settings.face))
        self._stream = LiveStream(engine, portrait, options, wanted)
        self.capture = _Capture(captured(settings.driving), self._stream.offer)
        self.frame_size, self.rate_hz = self._stream.frame_size, settings.rate_hz

    def step(self, outlet: Outlet) -> bool:
        """Whether there was anything to show."""
        has_ended = self.capture.has_ended.is_set()  # before looking: then nothing can have come since
        looked = self._stream.look()
        if looked is None and has_ended and self.has_more:
            looked, self.has_more = self._stream.end(), False
        if looked is None:
            return False
        self._stream.draw(looked)
        shown = self._stream.finish(looked)
        for picture in shown:
            outlet.write(picture.image, picture.captured_seconds)
            self._stream.viewed(monotonic() - picture.captured_seconds)
        return bool(shown)

    def report(self) -> CastReport:
        return CastReport(self._stream.counts, self._stream.latency, self._stream.contract.kept)

    def close(self) -> None:
        self.capture.stop()
        self._stream.close()


class _Spoken:
    """A microphone, or a sound file played as one, drives; its samples are the clock."""

    def __init__(self, settings: Cast, engine: Engine, options: Any, voice: Voice | None) -> None:
        portrait = engine.prepare(settings.source, face=_face(settings.face))
        self._speaker = speaker = Speaker(
            engine, portrait, voice, options, side_px=settings.side_px, watermark=_payload(settings)
        )
        self.frame_size, self.rate_hz = speaker.frame_size, speaker.frame_rate_hz
        self.sample_rate_hz: int | None = speaker.sample_rate_hz
        self.capture = _Capture(heard(settings.driving, speaker.sample_rate_hz), self._hear)
        self._max_seconds = settings.max_latency_ms / 1000
        self._latency, self._num_shown, self._num_left_out = LatencyMeter(), 0, 0
        self._number = 0
        self._num_heard = 0
        self._silent_until = 0.0
        """After the sound's end, when the next frame of silence is due."""
        self._captured: deque[tuple[int, float]] = deque()
        """Number of samples heard until a time, and that time; of what was not shown yet."""

    @property
    def has_more(self) -> bool:
        """Whether a whole picture's sound waits, or the rest of a file whose end was heard."""
        shown = self._number * self._speaker.sample_rate_hz / self.rate_hz
        rest = self.capture.has_ended.is_set() and shown < self._num_heard
        return rest or self._speaker.queued_seconds * self.rate_hz >= 1

    def step(self, outlet: Outlet) -> bool:
        if not self.has_more:
            return False
        waits = self._speaker.queued_seconds * self.rate_hz
        behind = waits > 1 + BEHIND_BLOCKS
        if waits < 1:  # the sound has ended and was the clock
            now = monotonic()
            if now < self._silent_until:
                time.sleep(WAIT_SECONDS)
                return True
            self._silent_until = max(self._silent_until, now) + 1 / self.rate_hz
        spoken = self._speaker.step(draw=not behind)
        if spoken is None:
            return True
        if outlet.carries_sound:
            outlet.sound(spoken.samples)
        self._number += 1
        captured_seconds = self._captured_by(round(self._number * len(spoken.samples)))
        if spoken.image is None:
            self._num_left_out += 1
            return True
        outlet.write(spoken.image, (self._number - 1) / self.rate_hz)
        self._num_shown += 1
        self._latency.add(monotonic() - captured_seconds)
        return True

    def report(self) -> CastReport:
        kept = not self._latency.count or self._latency.quantile(0.95) <= self._max_seconds
        return CastReport(
            LiveCounts(offered=self._number, replaced=self._num_left_out, shown=self._num_shown),
            self._latency,
            kept,
        )

    def close(self) -> None:
        self.capture.stop()
        self._speaker.close()

    def _hear(self, samples: np.ndarray, seconds: float) -> None:
        self._num_heard += len(samples)
        self._captured.append((self._num_heard, seconds))
        self._speaker.say(samples)

    def _captured_by(self, num_samples: int) -> float:
        """When the last of so many samples was captured."""
        while len(self._captured) > 1 and self._captured[0][0] < num_samples:
            self._captured.popleft()
        return self._captured[0][1]


class _Capture:
    """The thread that sees or hears."""

    def __init__(
        self, items: Iterator[tuple[np.ndarray, float]], take: Callable[[np.ndarray, float], object]
    ) -> None:
        self.has_ended = threading.Event()
        self.problem: VivantError | None = None
        self._items, self._take = items, take
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="vivant-capture", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        try:
            for item, seconds in self._items:
                if self._stopped:
                    break
                self._take(item, seconds)
        except VivantError as error:
            self.problem = error
        finally:
            self.has_ended.set()


def _payload(settings: Cast) -> int | None:
    return secrets.randbits(32) if settings.watermark else None


def _face(choice: str) -> str | None:
    return None if choice.strip().lower() == "none" else choice

"""An agent's face: sound of unknown length in, pictures and the sound that belongs to them out, without an end.

    say --> queue (bounded) --> a voice's motion, or a family that hears --> picture \
                 |                                                                   +--> Spoken, 25 per second
                 +------------------- held back until its picture is due ---> sound /

Between utterances the face hears silence, so the head goes on moving and the eyes go on blinking. `interrupt` is
barge-in: what was not spoken yet is forgotten and the sound stops with the next picture. How the picture of a sound is
made is in `vivant.live.spoken`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from vivant.animation import Animation
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.face.missing import MissingReport
from vivant.live.spoken import Ahead, Listener, Voiced
from vivant.marks.watermark import Marker
from vivant.session import Session
from vivant.voice import Voice

MAX_QUEUED_SECONDS = 60.0
"""Of speech that waits; an agent that sends faster than one can speak is told so."""


@dataclass(frozen=True)
class Spoken:
    """One picture and the sound to play with it."""

    image: np.ndarray | None
    """uint8 RGB (H, W, 3); None where it was not to be drawn."""
    samples: np.ndarray
    """float32 (samples per frame,) mono; zeros where nothing is said."""
    speaking: bool
    """Whether these samples were given by `say`."""


class Speaker:
    """One stream. `say` and `interrupt` may be called while another thread is in `step`."""

    def __init__(
        self,
        engine: Engine,
        portrait: Portrait,
        voice: Voice | None,
        options: Any = None,
        *,
        seed: int = 0,
        side_px: int = 720,
        watermark: int | None = 0,
    ) -> None:
        """voice: None for a family that is driven by sound.

        watermark: 32 bits to mark every picture with (see vivant.marks); None: not marked. Raises InputError where
        nothing hears.
        """
        stream = engine.stream if voice is None else voice.stream
        if stream.driving != "audio":
            raise InputError(
                f"{engine.family} is driven by pictures; a voice is needed to drive it with sound"
            )
        rate = stream.frame_rate_hz
        assert rate is not None, "what is driven by sound has a rate"
        self.frame_rate_hz = rate
        self.engine = engine
        self.sample_rate_hz = stream.sample_rate_hz or 0
        self._block = stream.samples_per_frame
        self._marker = Marker(watermark) if watermark is not None else None
        self._queue: deque[np.ndarray] = deque()
        self._num_queued = 0
        self._lock = Lock()
        self._ahead: deque[tuple[np.ndarray, bool]] = deque()
        """Sound that was heard and whose pictures are not due yet."""
        framing = portrait.framing
        self._session = Session(engine, portrait, options, seed, rate)
        self._animation = Animation.by_hand(
            self._session, portrait, MissingReport(keep=1), pasted=framing is not None
        )
        if framing is not None:
            self._animation.show_in(framing.within(side_px))
        self._ears: Listener = (
            Voiced(self._animation, voice, seed) if voice is not None else Ahead(self._animation, stream)
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self._animation.frame_size

    @property
    def options(self) -> Any:
        """The family's Options; replaced whole."""
        return self._session.options

    @options.setter
    def options(self, options: Any) -> None:
        self._session.options = options

    @property
    def queued_seconds(self) -> float:
        """Speech that waits to be spoken."""
        return self._num_queued / self.sample_rate_hz

    def say(self, samples: np.ndarray) -> None:
        """More speech: float32 mono (S,) in [-1, 1] at `sample_rate_hz`. Raises InputError where too much waits."""
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise InputError(f"speech is float32 mono (S,), got {samples.dtype} {samples.shape}")
        if not np.isfinite(samples).all():
            raise InputError("speech holds samples that are not numbers")
        with self._lock:
            if self._num_queued + len(samples) > MAX_QUEUED_SECONDS * self.sample_rate_hz:
                raise InputError(
                    f"more than {MAX_QUEUED_SECONDS:.0f} s of speech would wait; send it as it is spoken"
                )
            self._queue.append(np.clip(samples, -1, 1))
            self._num_queued += len(samples)

    def interrupt(self) -> float:
        """Stop speaking; returns the seconds of speech that nobody will hear."""
        with self._lock:
            dropped = self._num_queued + sum(len(block) for block, said in self._ahead if said)
            self._queue.clear()
            self._num_queued = 0
            self._ahead = deque((np.zeros_like(block), False) for block, _ in self._ahead)
            self._ears.hush()
        return dropped / self.sample_rate_hz

    def step(self, *, draw: bool = True) -> Spoken | None:
        """The next picture, one per 1 / frame_rate_hz; None while what was heard has no picture yet.

        draw: False where there is no time for the picture, so that at least the sound is in time.
        """
        with self._lock:
            block, said = self._next_block()
            self._ahead.append((block, said))
        due = self._ears.hear(block)
        if due is None:
            return None
        image = due() if draw else None
        if image is not None and self._marker is not None:
            image = self._marker.mark(image)
        with self._lock:
            samples, was_said = self._ahead.popleft()
        return Spoken(image, samples, was_said)

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        self.interrupt()
        self._ears.close()

    def _next_block(self) -> tuple[np.ndarray, bool]:
        """One frame's samples of what waits, made whole with silence."""
        block = np.zeros(self._block, np.float32)
        filled = 0
        while self._queue and filled < self._block:
            head = self._queue.popleft()
            part = head[: self._block - filled]
            block[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(head):
                self._queue.appendleft(head[len(part) :])
        self._num_queued -= filled
        return block, filled > 0

"""One viewer's live animation: frames with capture times in, pictures with the same times out, lag that cannot grow.

    offer --> pace --> Inbox (bounded) --> look: Follower, Session --> draw --> finish: paste, mark --> Shown
                                                                                                          |
    LatencyContract  <---------------------------  viewed(latency at the viewer)  <-----------------------+

A thin thing around Animation. It has no thread and no network of its own, and reads time only from the clock it is
given. Any thread may call `offer` and `viewed` at any time. One thread at a time looks and one finishes, each frame
after frame in order; between the two, frames are drawn in any thread and, where the engine `draws_apart`, several at
the same time. `step` does all three in turn. `end`, in the place of `look`, gives what a family with a delay owes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from time import monotonic
from typing import Any

import numpy as np
from PIL import Image

from vivant.animation import Animation
from vivant.drivers import Follower, Seen, Watched
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.face.framing import Framing
from vivant.face.missing import MissingPolicy, MissingReport
from vivant.live.inbox import Inbox, Policy
from vivant.live.latency import LatencyContract, LatencyMeter, Level, levels
from vivant.live.settings import LATENCIES_MS, RATES_HZ, SIDES_PX
from vivant.marks.watermark import Marker
from vivant.motion_file import Entry, Mark
from vivant.performance import Shown as Face
from vivant.session import Session

EARLY, LATE = 0.3, 0.6
"""Cameras jitter: a frame may come these shares of its interval too soon, or too late without putting off those after
it. The page does the same (static/client.js)."""
LONGEST_LATENCY_SECONDS = 600.0
"""A viewer that reports more has a broken clock."""


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """What a viewer asks for."""

    policy: Policy = "newest"
    """newest: for cameras. wait: for files; nothing is dropped, and the promise about latency does not apply."""
    rate_hz: float = 30.0
    """Frames per second that drive, at most (newest), or exactly (wait)."""
    side_px: int = 720
    """Longer side of the picture that is shown."""
    max_latency_ms: float = 300.0
    """Promise: 95 of 100 frames are displayed within this time of their capture."""
    on_missing: MissingPolicy = "hold"
    driving_face: str | None = "largest"
    """Which face drives; None where the frames are aligned crops."""
    paste_back: bool = True
    """The whole picture, where there is one, or the face's square."""
    seed: int = 0
    watermark: int | None = 0
    """32 bits to mark every picture with (see vivant.marks); None: not marked."""

    def __post_init__(self) -> None:
        asked = (self.rate_hz, RATES_HZ), (self.side_px, SIDES_PX), (self.max_latency_ms, LATENCIES_MS)
        if not all(low <= value <= high for value, (low, high) in asked):
            raise InputError(
                "rate_hz is 1 to 240, side_px 64 to 4096 and max_latency_ms 1 to 60000, got "
                f"{self.rate_hz}, {self.side_px} and {self.max_latency_ms}"
            )
        if self.on_missing == "fail":
            raise InputError("a live stream cannot stop at a frame without a face; use hold or source")


@dataclass(frozen=True)
class Shown:
    """A finished picture."""

    image: np.ndarray
    """uint8 RGB (H, W, 3)."""
    captured_seconds: float
    """When the frame that drove it was captured, on the clock of whoever captured it."""
    number: int
    """Of that frame; by default among all offered, from 0."""


@dataclass(frozen=True)
class LiveCounts:
    """What became of the frames so far."""

    offered: int = 0
    paced: int = 0
    """Dropped because they came faster than the level's rate."""
    replaced: int = 0
    """Dropped because a newer one came before they were taken."""
    shown: int = 0
    without_face: int = 0


@dataclass(frozen=True)
class _Captured:
    image: np.ndarray
    seconds: float
    number: int


@dataclass
class Looked:
    """A frame that was looked at, and the pictures that are due because of it, in whatever state they are."""

    due: list[tuple[_Captured, list[Face]]]
    seconds: float
    """What it took so far."""
    number: int | None
    """Of the frame; None: no frame, but the end (`LiveStream.end`)."""


class LiveStream:
    """See the top of this file."""

    def __init__(
        self,
        engine: Engine,
        portrait: Portrait,
        options: Any = None,
        settings: LiveSettings | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.settings = settings = settings or LiveSettings()
        if engine.hears:
            raise InputError(f"{engine.family} is driven by sound, not by pictures; use a Speaker")
        self.contract = LatencyContract(
            settings.max_latency_ms / 1000,
            # Who waits for frames answers the later the rarer they come.
            levels(
                settings.rate_hz,
                settings.side_px,
                1000 * engine.stream.latency_frames / settings.max_latency_ms,
            ),
        )
        self.latency = LatencyMeter()
        self._marker = Marker(settings.watermark) if settings.watermark is not None else None
        self._clock = clock
        # Each is written by one thread only: the first two by the one that offers, `_num_without_face` by the one that
        # looks, the others by the one that finishes.
        self._num_offered = self._num_paced = 0
        self._num_shown = self._num_without_face = 0
        self.busy_seconds = 0.0
        """Time inside `look`, `draw` and `finish` together, of what is finished."""
        self._inbox: Inbox[_Captured] = Inbox(engine.stream.chunk_frames, settings.policy)
        self._waiting: deque[_Captured] = deque()
        self._due_seconds = float("-inf")
        self._restart = False
        self._framing: Framing | None = portrait.framing if settings.paste_back else None
        face = settings.driving_face
        self._follow = Follower(engine, face) if face is not None else None
        self._session = Session(engine, portrait, options, settings.seed, settings.rate_hz)
        missing = MissingReport(settings.on_missing, keep=1)
        self._animation = Animation.by_hand(
            self._session, portrait, missing, pasted=self._framing is not None, draws_apart=True
        )
        self._level: Level | None = None
        self._fit()

    @property
    def counts(self) -> LiveCounts:
        return LiveCounts(
            self._num_offered,
            self._num_paced,
            self._inbox.num_replaced,
            self._num_shown,
            self._num_without_face,
        )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the pictures at the best level."""
        return self._animation.frame_size

    @property
    def level(self) -> Level:
        """What the viewer gets at present."""
        return self.contract.level

    @property
    def has_room(self) -> bool:
        """Whether a file may offer its next frame."""
        return len(self._inbox) < self._inbox.capacity

    @property
    def options(self) -> Any:
        return self._session.options

    @options.setter
    def options(self, options: Any) -> None:
        self._session.options = options

    def restart(self) -> None:
        """The next face is what motion is relative to."""
        self._restart = True

    def offer(self, image: np.ndarray, captured_seconds: float, number: int | None = None) -> bool:
        """Give a frame, uint8 RGB (H, W, 3); False where it is dropped, or, for files, where it has to wait.

        number: of the frame, as whoever captured it counts; None: as they are offered.
        """
        if not math.isfinite(captured_seconds):
            raise InputError(f"a capture time is a number of seconds, got {captured_seconds}")
        item = _Captured(image, captured_seconds, self._num_offered if number is None else number)
        if self.settings.policy == "wait":
            accepted = self._inbox.put(item)
            self._num_offered += accepted
            return accepted
        self._num_offered += 1
        if not self._is_due(captured_seconds):
            self._num_paced += 1
            return False
        return self._inbox.put(item)

    @property
    def draws_apart(self) -> bool:
        """Whether there is anything in `draw` to be done beside the next frame's `look` and `draw`."""
        return self._session.engine.draws_apart

    def step(self) -> list[Shown]:
        """Look at what waits, draw it and finish it; the pictures that are due, none where nothing waits."""
        looked = self.look()
        if looked is None:
            return []
        self.draw(looked)
        return self.finish(looked)

    def look(self) -> Looked | None:
        """The frame that waits, looked at; None where nothing waits."""
        captured = self._inbox.take()
        if captured is None:
            return None
        began = self._clock()
        item = self._seen(captured)
        self._waiting.append(captured)
        due = [(self._waiting.popleft(), shown) for shown in self._animation.take(item)]
        return Looked(due, self._clock() - began, captured.number)

    def end(self) -> Looked:
        """Once nothing waits, and in the place of `look`: what is still owed, so that as many pictures came out as
        frames went in. Nothing may be offered after it, and options and motion no longer change."""
        began = self._clock()
        due = [(self._waiting.popleft(), shown) for shown in self._animation.end()]
        return Looked(due, self._clock() - began, None)

    def draw(self, looked: Looked) -> None:
        """Draw what is still to be drawn."""
        began = self._clock()
        for _, shown in looked.due:
            shown[:] = [face() if callable(face) else face for face in shown]
        looked.seconds += self._clock() - began

    def finish(self, looked: Looked) -> list[Shown]:
        """The pictures that are due."""
        began = self._clock()
        self._fit()
        finished = [
            Shown(self._finished(self._animation.finish(shown)), captured.seconds, captured.number)
            for captured, shown in looked.due
        ]
        self._num_shown += len(finished)
        self.busy_seconds += looked.seconds + self._clock() - began
        return finished

    def viewed(self, latency_seconds: float) -> bool:
        """The viewer displayed a picture this long after its capture; whether the contract changed something."""
        if not 0 <= latency_seconds <= LONGEST_LATENCY_SECONDS:
            return False
        self.latency.add(latency_seconds)
        return self.settings.policy == "newest" and self.contract.observe(latency_seconds, self._clock())

    def close(self) -> None:
        """Let go of the session and what waits. Safe to call twice."""
        self._inbox.clear()
        self._animation.close()

    def _is_due(self, captured: float) -> bool:
        interval = 1 / self.contract.level.rate_hz
        if self._due_seconds - 2 * interval <= captured < self._due_seconds - EARLY * interval:
            return False
        # One interval after the last frame was due keeps the mean rate; a very late frame starts a new beat.
        on_beat = -EARLY * interval <= captured - self._due_seconds <= LATE * interval
        self._due_seconds = (self._due_seconds if on_beat else captured) + interval
        return True

    def _seen(self, captured: _Captured) -> Watched | Entry:
        """The driver's face, and where that needs nothing that drawing changes, what it does."""
        time = Fraction(captured.number) / Fraction(self.settings.rate_hz)
        seen: Seen | None = Seen(captured.image, None, False, (math.nan,) * 3, 0.0)
        session = self._session
        if self._follow is not None:
            # Eyes take most of the time that following a face takes, and mostly nobody asks how open they are.
            finely = self._restart or session.engine.watches_eyes(self.options)
            seen = self._follow.update(captured.image, irises=finely)
        if seen is None:
            self._num_without_face += 1
            return Watched(time, None)
        if self._restart:
            seen, self._restart = replace(seen, restart=True), False
        if not session.can_see_ahead:
            return Watched(time, seen)
        # A new shot begins before it is seen, since what is seen of it may be relative to its first face.
        motion = session.see(seen.image, window=seen.window, openness=seen.openness, restart=seen.restart)
        return Entry(Mark.MOVES, motion)

    def _fit(self) -> None:
        """Draw at the size that the contract's level says."""
        level = self.contract.level
        if self._framing is not None and (self._level is None or level.side_px != self._level.side_px):
            self._animation.show_in(self._framing.within(level.side_px))
        self._level = level

    def _finished(self, image: np.ndarray) -> np.ndarray:
        sized = self._sized(image)
        return sized if self._marker is None else self._marker.mark(sized)

    def _sized(self, image: np.ndarray) -> np.ndarray:
        """The square alone, no larger than the level says; whole pictures are drawn at their size."""
        assert self._level is not None
        side = self._level.side_px
        if self._framing is not None or max(image.shape[:2]) <= side:
            return image
        size = (
            round(image.shape[1] * side / max(image.shape[:2])),
            round(image.shape[0] * side / max(image.shape[:2])),
        )
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))

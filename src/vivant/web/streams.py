"""Tracks of a peer connection that never fall behind: the newest picture wins, sound keeps the pictures' time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from vivant.errors import InputError
from vivant.live.inbox import Inbox
from vivant.media.tracks import SOUND_BLOCK, SOUND_HZ, sound_frame
from vivant.web.rtp import Moment

T = TypeVar("T")

BLOCK_SECONDS = SOUND_BLOCK / SOUND_HZ
QUEUED_BLOCKS = 50
"""Of sound that waits to be sent: a second."""
LONGEST_HELD_BLOCKS = 250
"""Of sound that waits for its pictures: five seconds."""
TOLERANCE_SECONDS = 0.04
"""Sound and pictures may be this far apart before sound is left out or silence put in; below what one notices."""
RISE, FALL = 0.1, 0.005
"""Weight of a new block in the time that sound takes to come: late ones count at once, early ones hardly."""
SMOOTHING = 0.05
"""Weight of a new picture in the mean time that pictures take."""


async def received(track: MediaStreamTrack) -> AsyncIterator[Any]:
    """The frames of a viewer's track. Raises InputError at its end."""
    while True:
        try:
            yield await track.recv()
        except MediaStreamError as error:
            raise InputError(f"the viewer's {track.kind} track ended") from error


class Awaited(Generic[T]):
    """An inbox whose next item can be waited for; what is pushed out of it is counted."""

    def __init__(self, size: int) -> None:
        self._inbox: Inbox[T] = Inbox(size, "newest")
        self._came = asyncio.Event()

    @property
    def num_replaced(self) -> int:
        return self._inbox.num_replaced

    def put(self, item: T) -> None:
        self._inbox.put(item)
        self._came.set()

    async def take(self) -> T:
        while (item := self._inbox.take()) is None:
            self._came.clear()
            await self._came.wait()
        return item


class Newest:
    """Reads a received track at once, as it comes, and keeps only its newest frame; aiortc would keep all."""

    def __init__(self, track: MediaStreamTrack, arrived: Callable[[Any], None]) -> None:
        self._track, self._arrived = track, arrived
        self._frames: Awaited[Any] = Awaited(1)

    @property
    def num_replaced(self) -> int:
        return self._frames.num_replaced

    async def read(self) -> None:
        """Until the track ends; then raises InputError."""
        async for frame in received(self._track):
            self._arrived(frame)
            self._frames.put(frame)

    async def take(self) -> Any:
        """The next frame that is new."""
        return await self._frames.take()


@dataclass(frozen=True)
class Outgoing:
    """A picture on its way, as a video frame."""

    frame: Any
    number: int
    captured: Moment | None


class PictureTrack(MediaStreamTrack):
    """Pictures to a viewer. What was not taken when a newer one comes is left out."""

    kind = "video"

    def __init__(self, sent: Callable[[Outgoing], None]) -> None:
        """sent: called once a picture has left."""
        super().__init__()
        self._sent = sent
        self._pictures: Awaited[Outgoing] = Awaited(1)
        self._last: Outgoing | None = None

    @property
    def num_replaced(self) -> int:
        return self._pictures.num_replaced

    def put(self, picture: Outgoing) -> None:
        self._pictures.put(picture)

    async def recv(self) -> Any:
        if self._last is not None:  # aiortc asks for the next one when the last one has left
            self._sent(self._last)
        self._last = await self._pictures.take()
        return self._last.frame


class SoundTrack(MediaStreamTrack):
    """Sound of a session in blocks of 20 ms, sent as it comes."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._blocks: Awaited[np.ndarray] = Awaited(QUEUED_BLOCKS)
        self._start = 0

    def put(self, block: np.ndarray) -> None:
        """int16 mono (SOUND_BLOCK,) at SOUND_HZ."""
        self._blocks.put(block)

    async def recv(self) -> Any:
        frame = sound_frame(await self._blocks.take(), SOUND_HZ, self._start)
        self._start += SOUND_BLOCK
        return frame


class Held:
    """A viewer's own sound, held back for as long as its pictures take, so that lips and words go together.

    What is said at a moment comes out when the picture of that moment does, or where pictures are faster than sound
    travels, as soon as sound can without gaps.
    """

    def __init__(self) -> None:
        self._lags: dict[str, float] = {}
        """Smoothed time from the capture of a picture until it is handed over, for each clock of capture."""
        self._transit: dict[str, float] = {}
        """About the longest time from the capture of sound until it is here, for each clock of capture."""
        self._blocks: deque[tuple[np.ndarray, Moment]] = deque(maxlen=LONGEST_HELD_BLOCKS)
        self._is_playing = False

    def put(self, block: np.ndarray, captured: Moment, now_seconds: float) -> None:
        """int16 mono (SOUND_BLOCK,) at SOUND_HZ, which came now."""
        for clock, lag in _lags(captured, now_seconds):
            mean = self._transit.get(clock, lag)
            self._transit[clock] = mean + (RISE if lag > mean else FALL) * (lag - mean)
        self._blocks.append((block, captured))

    def picture(self, captured: Moment, now_seconds: float) -> None:
        """A picture was handed over now."""
        for clock, lag in _lags(captured, now_seconds):
            mean = self._lags.get(clock, lag)
            # A jump is another load, not noise.
            self._lags[clock] = lag if abs(lag - mean) > 1 else mean + SMOOTHING * (lag - mean)

    def take(self, now_seconds: float) -> np.ndarray:
        """The block that is due now, or silence."""
        # Once sound runs it may drift by TOLERANCE_SECONDS; then it is put right to half a block.
        allowed = TOLERANCE_SECONDS if self._is_playing else BLOCK_SECONDS / 2
        if self._blocks and self._early(now_seconds) < -allowed:
            allowed = BLOCK_SECONDS / 2
            while self._blocks and self._early(now_seconds) < -allowed:
                self._blocks.popleft()
        self._is_playing = bool(self._blocks) and self._early(now_seconds) <= allowed
        return self._blocks.popleft()[0] if self._is_playing else np.zeros(SOUND_BLOCK, np.int16)

    async def play(self, track: SoundTrack) -> None:
        """Hand over one block every 20 ms, for ever."""
        began, count = monotonic(), 0
        while True:
            track.put(self.take(monotonic()))
            count += 1
            late = monotonic() - began - count * BLOCK_SECONDS
            if late > 1:  # the machine slept: no second of sound at once
                began += late
            await asyncio.sleep(max(0.0, -late))

    def _early(self, now: float) -> float:
        """Seconds until the oldest block is to be heard; endless before there was a picture."""
        captured = self._blocks[0][1]
        clock, since = ("here", captured.here_seconds)
        if captured.wall_seconds is not None and "wall" in self._lags:
            clock, since = "wall", captured.wall_seconds
        lag = self._lags.get(clock, float("inf"))
        return since + max(lag, self._transit[clock] + BLOCK_SECONDS) - now


def _lags(captured: Moment, now: float) -> Iterator[tuple[str, float]]:
    """By the clock, how long ago that was."""
    yield "here", now - captured.here_seconds
    if captured.wall_seconds is not None:
        yield "wall", now - captured.wall_seconds

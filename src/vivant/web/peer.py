"""A session's way to its viewer over WebRTC: tracks both ways, while words stay on the line.

    camera track --> newest --> ears.picture       LiveStream / Speaker       picture --> track --> viewer
    sound track  --> ears.sound, or held back until the pictures of its time are shown --> track --> viewer

Which picture a viewer sees it knows by the RTP timestamp: every picture that has left is told on the line (`sent`),
with the time of its capture on the viewer's own wall clock. Nothing here waits for the network: what cannot be sent
is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

import numpy as np
from aiortc import (
    InvalidStateError,
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCSessionDescription,
)

from vivant.errors import InputError
from vivant.live.inbox import Inbox
from vivant.media.tracks import PICTURE_CLOCK_HZ, SOUND_HZ, Blocks, Mono, frame_of, picture_of
from vivant.web import protocol
from vivant.web.delivery import Ears
from vivant.web.line import Line
from vivant.web.rtp import CaptureClock, last_timestamp
from vivant.web.settings import Serving
from vivant.web.streams import Held, Newest, Outgoing, PictureTrack, SoundTrack, received

CONNECT_SECONDS = 30.0
MAX_MEDIA = 2
"""Sections of an offer: one video, one sound."""
SDP_ERRORS = (
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    AssertionError,
    InvalidStateError,
    RuntimeError,
)
"""What aiortc raises for an offer that makes no sense; it has no error of its own for it (found by a fuzz)."""


class Peer:
    """See the top of this file, and Delivery for its methods."""

    may_lose = True

    def __init__(self, line: Line, serving: Serving, ears: Ears) -> None:
        self._line, self._ears = line, ears
        self.ice_servers = _ice_servers(serving)
        servers = [RTCIceServer(**server.model_dump()) for server in self.ice_servers]
        # An empty list, not None: aiortc would ask a public server then.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._connection.on("track", self._hear)
        self._connection.on("connectionstatechange", self._changed_state)
        self._pictures, self._sounds = PictureTrack(self._left), SoundTrack()
        self._told: Inbox[protocol.Sent] = Inbox(32, "newest")
        self._tell, self._changed = asyncio.Event(), asyncio.Event()
        self._camera: Newest | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._problem: BaseException | None = None
        self._clock: CaptureClock | None = None
        """Of the camera."""
        self._blocks = Blocks(ears.sample_rate_hz or SOUND_HZ)
        self._held = Held()
        self._has_offer = False
        self.parts: tuple[Callable[[], Awaitable[None]], ...] = (self._live, self._talk)

    @property
    def num_dropped(self) -> int:
        received = 0 if self._camera is None else self._camera.num_replaced
        return received + self._pictures.num_replaced

    async def answer(self, offer: protocol.Offer) -> protocol.Answer:
        if self._has_offer:
            raise InputError("a session takes one offer; begin another session")
        self._has_offer = True
        kinds = [line[2:].split(" ")[0] for line in offer.sdp.splitlines() if line.startswith("m=")]
        if "video" not in kinds or len(kinds) > MAX_MEDIA or len(set(kinds) | {"audio", "video"}) > 2:
            raise InputError("an offer has one video section, at most one audio section and nothing else")
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            self._connection.addTrack(self._pictures)
            if "audio" in kinds:
                self._connection.addTrack(self._sounds)
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except SDP_ERRORS as error:
            raise InputError(f"this offer cannot be answered: {error or type(error).__name__}") from error
        return protocol.Answer(sdp=self._connection.localDescription.sdp)

    def want_key(self) -> None:
        """Nothing to do: the viewer's WebRTC asks for key frames by itself."""

    async def picture(self, image: np.ndarray, number: int, seconds: float) -> None:
        ticks = round(seconds * PICTURE_CLOCK_HZ)
        frame = await asyncio.to_thread(frame_of, image, ticks)
        captured = None if self._clock is None else self._clock.moment(ticks)
        self._pictures.put(Outgoing(frame, number, captured))
        if captured is not None:
            self._held.picture(captured, monotonic())

    async def sound(self, samples: np.ndarray, number: int, seconds: float, speaking: bool) -> None:
        for block in self._blocks.push(samples):
            self._sounds.put(block)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(*SDP_ERRORS):  # a senseless offer may leave the connection half made
            await self._connection.close()

    async def _live(self) -> None:
        """Raises InputError when there is no connection, or none any more."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._until(lambda: self._connection.connectionState == "connected")
        except TimeoutError as error:
            raise InputError(
                "WebRTC found no way between viewer and server; set --turn, or use transport websocket"
            ) from error
        await self._until(lambda: False)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            if self._problem is not None:
                raise self._problem
            if self._connection.connectionState in ("failed", "closed"):
                raise InputError("the WebRTC connection was lost; begin another session")
            self._changed.clear()
            await self._changed.wait()

    async def _talk(self) -> None:
        """Tell what has left; here, because aiortc's own task may not wait for the line."""
        while True:
            while (sent := self._told.take()) is not None:
                await self._line.tell(sent)
            self._tell.clear()
            await self._tell.wait()

    def _changed_state(self) -> None:
        self._changed.set()

    def _left(self, picture: Outgoing) -> None:
        sender = next(s for s in self._connection.getSenders() if s.track is self._pictures)
        wall = None if picture.captured is None else picture.captured.wall_seconds
        self._told.put(
            protocol.Sent(
                number=picture.number,
                rtp_timestamp=last_timestamp(sender),
                captured_ms=None if wall is None else wall * 1000,
            )
        )
        self._tell.set()

    def _hear(self, track: MediaStreamTrack) -> None:
        """A track of the viewer begins."""
        receiver = next(r for r in self._connection.getReceivers() if r.track is track)
        if track.kind == "video":
            self._begin(self._see(receiver))
        elif self._ears.sound is not None:
            self._begin(self._listen(track, self._ears.sound))
        else:
            self._begin(self._hold(receiver))
            self._begin(self._held.play(self._sounds))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and self._problem is None:
            self._problem = task.exception()
            self._changed.set()

    async def _see(self, receiver: RTCRtpReceiver) -> None:
        self._clock = clock = CaptureClock(receiver, PICTURE_CLOCK_HZ)
        self._camera = camera = Newest(receiver.track, lambda frame: clock.arrived(frame.pts))
        self._begin(camera.read())
        number = 0
        while True:
            frame = await camera.take()
            if self._ears.picture is not None:
                image = await asyncio.to_thread(picture_of, frame)
                await self._ears.picture(image, frame.pts / PICTURE_CLOCK_HZ, number)
            number += 1

    async def _listen(self, track: MediaStreamTrack, take: Callable[[np.ndarray], None]) -> None:
        mono = Mono(self._ears.sample_rate_hz or SOUND_HZ)
        async for frame in received(track):
            take(mono.push(frame))

    async def _hold(self, receiver: RTCRtpReceiver) -> None:
        mono, blocks = Mono(SOUND_HZ), Blocks(SOUND_HZ)
        clock: CaptureClock | None = None
        async for frame in received(receiver.track):
            clock = clock or CaptureClock(receiver, frame.sample_rate)
            ticks = frame.pts
            clock.arrived(ticks)
            for block in blocks.push(mono.push(frame)):
                self._held.put(block, clock.moment(ticks), monotonic())


def _ice_servers(serving: Serving) -> list[protocol.IceServer]:
    """Where both sides learn their addresses; none by default, and then nobody else is asked."""
    servers = [protocol.IceServer(urls=serving.stun)] if serving.stun is not None else []
    if serving.turn is not None:
        servers.append(
            protocol.IceServer(
                urls=serving.turn, username=serving.turn_user, credential=serving.turn_password
            )
        )
    return servers

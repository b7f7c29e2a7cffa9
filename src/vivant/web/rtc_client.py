"""A small client for the live connection over WebRTC, for programs: tracks in, pictures and sound out. Extra webrtc.

    async with RtcClient("http://127.0.0.1:8710") as client:
        await client.start(Hello(version=VERSION, portrait=name, transport="webrtc"), camera=track)
        async for seen in client.pictures():       # for ever; seen.image is uint8 RGB (H, W, 3)
            ...

Upload the portrait with LiveClient. Tracks are aiortc's: of a camera (MediaPlayer), of a microphone, or one's own.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from vivant.errors import InputError
from vivant.media.tracks import SOUND_HZ, Mono, picture_of
from vivant.web import protocol
from vivant.web.rtp import timestamp_of
from vivant.web.streams import Newest, received

T = TypeVar("T")

REMEMBERED = 128
"""Pictures that were told or seen and whose other half is still to come."""

WORDS_SECONDS = 5.0
"""How long the server's last words may take."""


@dataclass(frozen=True)
class SeenPicture:
    """One picture that arrived."""

    image: np.ndarray
    """uint8 RGB (H, W, 3)."""
    rtp_timestamp: int
    sent: protocol.Sent | None
    """What the server told of it; None where its words have not come yet."""


class RtcClient:
    """One session. Raises InputError with the server's words where it refuses something."""

    def __init__(self, address: str, token: str | None = None) -> None:
        """address: of the page, such as http://127.0.0.1:8710."""
        self.address, self.token = address.rstrip("/"), token
        self.messages: list[protocol.FromServer] = []
        """What the server said besides `sent`; take them out when read."""
        self._socket: ClientConnection | None = None
        self._connection: RTCPeerConnection | None = None
        self._sent: OrderedDict[int, protocol.Sent] = OrderedDict()
        self._seen: OrderedDict[int, float] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self._answer: asyncio.Future[protocol.Answer] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()
        if self._socket is not None:
            await self._socket.close()

    async def start(
        self,
        hello: protocol.Hello,
        *,
        camera: MediaStreamTrack | None = None,
        microphone: MediaStreamTrack | None = None,
    ) -> protocol.Ready:
        """Begin the session that `hello` describes and connect."""
        try:
            self._socket = await connect(f"ws{self.address.removeprefix('http')}/v1/live", compression=None)
        except (OSError, InvalidHandshake) as error:
            raise InputError(f"{self.address} does not answer as a vivant server: {error}") from error
        await self._socket.send(hello.model_copy(update={"token": self.token}).model_dump_json())
        ready = await self._hear()
        assert isinstance(ready, protocol.Ready), "the server's first word is ready"
        servers = [RTCIceServer(**server.model_dump()) for server in ready.ice_servers]
        self._connection = connection = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        connection.addTransceiver(camera or "video", "sendrecv" if camera else "recvonly")
        if microphone is not None or hello.mode == "voice":
            connection.addTransceiver(microphone or "audio", "sendrecv" if microphone else "recvonly")
        await connection.setLocalDescription(await connection.createOffer())
        self._tasks.append(asyncio.create_task(self._listen()))
        await self.tell(protocol.Offer(sdp=connection.localDescription.sdp))
        answer = await self._or_end(self._answer)
        await connection.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        return ready

    async def tell(self, message: protocol.FromViewer) -> None:
        """Send a message, such as ChangeOptions, Restart or Interrupt."""
        try:
            await self._open().send(message.model_dump_json())
        except ConnectionClosed as error:
            raise InputError(f"the server ended the session: {error}") from error

    async def pictures(self) -> AsyncIterator[SeenPicture]:
        """The newest picture whenever there is a new one; reported as viewed."""
        receiver = next(r for r in self._peer().getReceivers() if r.track.kind == "video")
        newest = Newest(receiver.track, lambda frame: None)
        self._tasks.append(asyncio.create_task(newest.read()))
        while True:
            frame = await self._or_end(newest.take())
            timestamp = timestamp_of(receiver, frame.pts)
            image = await asyncio.to_thread(picture_of, frame)
            self._remember(self._seen, timestamp, time.time() * 1000)
            sent = self._sent.get(timestamp)
            if sent is not None:
                await self._viewed(sent)
            yield SeenPicture(image, timestamp, sent)

    async def sound(self) -> AsyncIterator[np.ndarray]:
        """The session's sound as it comes: float32 mono (S,) at media.tracks.SOUND_HZ."""
        receiver = next(r for r in self._peer().getReceivers() if r.track.kind == "audio")
        mono = Mono(SOUND_HZ)
        async for frame in received(receiver.track):
            yield mono.push(frame)

    async def _or_end(self, work: Awaitable[T]) -> T:
        """Its result; raises what ended the session in the meantime."""
        wanted = asyncio.ensure_future(work)
        both: list[asyncio.Future[Any]] = [wanted, *self._tasks]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                # Tracks may end before the server's words on why have come.
                await asyncio.wait(self._tasks[:1], timeout=WORDS_SECONDS)
                next(task for task in self._tasks if task.done()).result()
            return wanted.result()
        finally:
            wanted.cancel()

    async def _listen(self) -> None:
        while True:
            message = await self._hear()
            if isinstance(message, protocol.Sent):
                self._remember(self._sent, message.rtp_timestamp, message)
                if message.rtp_timestamp in self._seen:
                    await self._viewed(message)
            elif isinstance(message, protocol.Answer):
                self._answer.set_result(message)
            else:
                self.messages.append(message)

    async def _viewed(self, sent: protocol.Sent) -> None:
        seen_ms = self._seen[sent.rtp_timestamp]
        late_ms = None if sent.captured_ms is None else max(0.0, seen_ms - sent.captured_ms)
        await self.tell(protocol.Viewed(number=sent.number, latency_ms=late_ms))

    async def _hear(self) -> protocol.FromServer:
        try:
            data = await self._open().recv()
        except ConnectionClosed as error:
            raise InputError(f"the server ended the session: {error}") from error
        message = protocol.parse_server(data if isinstance(data, str) else data.decode())
        if isinstance(message, protocol.Trouble) and message.fatal:
            raise InputError(message.message)
        return message

    def _remember(self, memory: OrderedDict[int, Any], timestamp: int, what: Any) -> None:
        memory[timestamp] = what
        while len(memory) > REMEMBERED:
            memory.popitem(last=False)

    def _open(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("there is no session; call start first")
        return self._socket

    def _peer(self) -> RTCPeerConnection:
        if self._connection is None:
            raise RuntimeError("there is no session; call start first")
        return self._connection

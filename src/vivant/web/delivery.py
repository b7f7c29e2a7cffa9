"""How pictures and sound travel between a session and its viewer; the session is the same for every way.

hello.transport = websocket    packets on the line itself
hello.transport = webrtc       tracks of a peer connection; the line carries words only (peer.py)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vivant.errors import InputError
from vivant.media.packets import PacketEncoder
from vivant.web import protocol
from vivant.web.line import Line
from vivant.web.settings import Serving

LOST_SECONDS = 1.0
"""A picture that nobody has seen after this long was lost, where pictures can be."""


@dataclass(frozen=True)
class Ears:
    """What a session does with what comes in beside the line."""

    picture: Callable[[np.ndarray, float, int], Awaitable[None]] | None = None
    """uint8 RGB (H, W, 3), the seconds of its capture, its number."""
    sound: Callable[[np.ndarray], None] | None = None
    """float32 mono (S,) at `sample_rate_hz`. None: a viewer's sound goes back to it, in step with its pictures."""
    sample_rate_hz: int | None = None
    """Of the session's sound in both directions."""


class Delivery(Protocol):
    """One session's way to its viewer."""

    may_lose: bool
    """Whether a picture that was sent may never be seen, so that nothing may wait for it for ever."""
    parts: tuple[Callable[[], Awaitable[None]], ...]
    """What has to run beside the session."""
    ice_servers: list[protocol.IceServer]
    """What the viewer's peer connection is to use."""

    @property
    def num_dropped(self) -> int:
        """Pictures that were left out on the way, in either direction."""

    async def answer(self, offer: protocol.Offer) -> protocol.Answer:
        """Agree on a peer connection. Raises InputError."""

    def want_key(self) -> None:
        """The viewer's decoder lost the thread."""

    async def picture(self, image: np.ndarray, number: int, seconds: float) -> None:
        """Show uint8 RGB (H, W, 3): the number and capture time of the frame that drove it."""

    async def sound(self, samples: np.ndarray, number: int, seconds: float, speaking: bool) -> None:
        """Play float32 mono (S,) with the pictures of its time."""

    async def close(self) -> None:
        """Let go of everything. Safe to call twice."""


class Packets:
    """Pictures and sound as binary packets on the line."""

    may_lose = False
    parts: tuple[Callable[[], Awaitable[None]], ...] = ()
    num_dropped = 0

    def __init__(self, line: Line, encoder: PacketEncoder) -> None:
        self._line, self._encoder = line, encoder
        self.ice_servers: list[protocol.IceServer] = []

    async def answer(self, offer: protocol.Offer) -> protocol.Answer:
        raise InputError("this session uses the WebSocket; an offer needs transport webrtc in hello")

    def want_key(self) -> None:
        self._encoder.want_key()

    async def picture(self, image: np.ndarray, number: int, seconds: float) -> None:
        packet = await asyncio.to_thread(self._encoder.encode, image)
        await self._line.send(
            protocol.Binary(
                protocol.Kind.PICTURE,
                packet.is_key,
                number,
                seconds * 1000,
                packet.width,
                packet.height,
                packet.data,
            )
        )

    async def sound(self, samples: np.ndarray, number: int, seconds: float, speaking: bool) -> None:
        data = (samples * 32767).astype("<i2").tobytes()
        await self._line.send(
            protocol.Binary(protocol.Kind.SOUND, speaking, number, seconds * 1000, 0, 0, data)
        )

    async def close(self) -> None:
        return


def deliver(line: Line, serving: Serving, hello: protocol.Hello, rate_hz: float, ears: Ears) -> Delivery:
    """The way that the viewer asked for. Raises InputError where this server does not offer it."""
    if hello.transport == "websocket":
        return Packets(line, PacketEncoder(hello.receive, rate_hz))
    if not serving.webrtc:
        raise InputError("this server offers no WebRTC; use transport websocket, or start it with --webrtc")
    if hello.mode == "file":
        raise InputError("mode file drops nothing, which WebRTC cannot promise; use transport websocket")
    from vivant.web.peer import Peer  # needs the extra webrtc

    return Peer(line, serving, ears)

"""A live connection's WebSocket with typed messages and limits, and what every mode does with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from vivant import records
from vivant.engine import Engine, Portrait
from vivant.errors import InputError
from vivant.web import protocol
from vivant.web.house import changed_options

MESSAGES_PER_SECOND = 1000


class Line:
    """The socket, with typed messages and limits."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._second, self._count = 0, 0

    async def tell(self, message: protocol.FromServer) -> None:
        await self._socket.send_text(message.model_dump_json())

    async def send(self, packet: protocol.Binary) -> None:
        await self._socket.send_bytes(packet.packed())

    async def hear(self, timeout_seconds: float) -> protocol.FromViewer | protocol.Binary:
        """The next message. Raises InputError for nonsense, WebSocketDisconnect at the end, TimeoutError."""
        message = await asyncio.wait_for(self._socket.receive(), timeout_seconds)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        second = int(monotonic())
        self._count = self._count + 1 if second == self._second else 1
        self._second = second
        if self._count > MESSAGES_PER_SECOND:
            raise InputError(f"more than {MESSAGES_PER_SECOND} messages a second; send less")
        if message.get("bytes") is not None:
            return protocol.parse_binary(message["bytes"])
        return protocol.parse_viewer(message.get("text") or "")


class HasOptions(Protocol):
    """A stream whose options are replaced whole."""

    options: Any


async def change_options(
    line: Line, message: protocol.ChangeOptions, stream: HasOptions, engine: Engine, portrait: Portrait
) -> None:
    """Make the change or say why not, and then in any case what holds now."""
    try:
        options = changed_options(stream.options, message.options)
        engine.start(portrait, options)  # says what this preset cannot do
        stream.options = options
    except InputError as error:
        await line.tell(protocol.Trouble(code="options", message=str(error), fatal=False))
    await line.tell(protocol.OptionsNow(options=records.to_data(stream.options)))


async def until_one_ends(closing: asyncio.Event, *parts: Callable[[], Awaitable[None]]) -> None:
    """Run the parts of a session side by side until one returns or raises; the others are then ended.

    Raises what that part raised, and InputError when `closing` is set.
    """

    async def close() -> None:
        await closing.wait()
        raise InputError("the server is shutting down")

    tasks = [asyncio.ensure_future(part()) for part in (*parts, close)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""A small client for the live connection, for programs: frames or sound in, pictures and sound out.

    with LiveClient("http://127.0.0.1:8710") as client:
        client.start(Hello(version=VERSION, portrait=client.upload("portrait.png"), mode="file", send="h264"))
        for picture in client.animate(frames):     # uint8 RGB (H, W, 3)
            ...

An agent uses mode="voice": `say` samples as they are spoken, `tell(Interrupt())` to stop, and iterates `packets()`;
each picture is reported by `tell(Viewed(number=packet.number, latency_ms=...))`, or only sound comes after twelve.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection, connect

from vivant.errors import InputError
from vivant.media.packets import PacketDecoder, PacketEncoder
from vivant.web import protocol

AHEAD = 4
"""Frames that `animate` sends before it waits for a picture, beyond those that the preset waits for itself."""


@dataclass
class LiveClient:
    """One connection. Raises InputError with the server's words where it refuses something."""

    address: str
    """Of the page, such as http://127.0.0.1:8710."""
    token: str | None = None
    messages: list[protocol.FromServer] = field(default_factory=list)
    """What the server said besides pictures: pace, stats, options; take them out when read."""
    ready: protocol.Ready | None = None
    _socket: ClientConnection | None = None
    _number: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the session. Safe to call twice."""
        self._stack.close()
        self._socket = None

    def upload(self, picture: str | Path) -> str:
        """Send a picture; the name by which `start` knows it."""
        request = urllib.request.Request(
            f"{self.address.rstrip('/')}/v1/portraits", data=Path(picture).read_bytes(), method="POST"
        )
        request.add_header("content-type", "application/octet-stream")
        if self.token is not None:
            request.add_header("authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return str(json.loads(answer.read())["id"])
        except urllib.error.HTTPError as error:
            with error:
                raise InputError(str(json.loads(error.read())["detail"])) from error
        except OSError as error:
            raise self._unreachable(error) from error

    def start(self, hello: protocol.Hello) -> protocol.Ready:
        """Begin the session that `hello` describes."""
        base = "ws" + self.address.rstrip("/").removeprefix("http")
        try:
            self._socket = self._stack.enter_context(
                connect(f"{base}/v1/live", max_size=protocol.MAX_PACKET_BYTES, compression=None)
            )
        except (OSError, InvalidHandshake) as error:
            raise self._unreachable(error) from error
        self._socket.send(hello.model_copy(update={"token": self.token}).model_dump_json())
        self._encoder = PacketEncoder(hello.send, hello.rate_hz)
        self._decoder = PacketDecoder(hello.receive)
        self._rate_hz = hello.rate_hz
        answer = self._receive()
        assert isinstance(answer, protocol.Ready), "the server's first word is ready"
        self.ready = answer
        return answer

    def tell(self, message: protocol.FromViewer) -> None:
        """Send a message, such as ChangeOptions, Restart or Interrupt."""
        self._give(message.model_dump_json())

    def animate(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Mode file: one picture for each frame, uint8 RGB (H, W, 3), in order.

        A preset that waits for frames (`ready.latency_frames`) gives the last pictures only at the session's end, so
        with such a one this is once per session; with the others the session goes on.
        """
        assert self.ready is not None, "start comes first"
        owed, latency = 0, self.ready.latency_frames
        for image in frames:
            self.push(image, self._number / self._rate_hz)
            owed += 1
            while owed >= AHEAD + latency:
                yield self.picture()[1]
                owed -= 1
        if latency:
            self.tell(protocol.End())
        for _ in range(owed):
            yield self.picture()[1]

    def push(self, image: np.ndarray, captured_seconds: float) -> None:
        """Send one frame, uint8 RGB (H, W, 3), with the time of its capture on your clock."""
        packet = self._encoder.encode(image)
        self._send(
            protocol.Binary(
                protocol.Kind.PICTURE,
                packet.is_key,
                self._number,
                captured_seconds * 1000,
                packet.width,
                packet.height,
                packet.data,
            )
        )

    def say(self, samples: np.ndarray) -> None:
        """Mode voice: float32 mono (S,) in [-1, 1] at `ready.sample_rate_hz`."""
        sound = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        self._send(protocol.Binary(protocol.Kind.SOUND, False, self._number, 0.0, 0, 0, sound))

    def picture(self, clock: Callable[[], float] | None = None) -> tuple[protocol.Binary, np.ndarray]:
        """The next picture and its packet, reported as viewed.

        clock: that of `captured_seconds`, for the latency that is reported; None: not measured.
        """
        for packet in self.packets():
            if packet.kind is protocol.Kind.PICTURE:
                image = self._decoder.decode(packet.payload)
                late_ms = 0.0 if clock is None else max(0.0, clock() * 1000 - packet.captured_ms)
                self.tell(protocol.Viewed(number=packet.number, latency_ms=late_ms))
                if image is not None:
                    return packet, image
        raise AssertionError("packets() ends by raising")

    def packets(self) -> Iterator[protocol.Binary]:
        """Pictures and sound as they come; other messages are put into `messages`."""
        while True:
            received = self._receive()
            if isinstance(received, protocol.Binary):
                yield received
            else:
                self.messages.append(received)

    def _receive(self) -> protocol.Binary | protocol.FromServer:
        try:
            data = self._open().recv()
        except ConnectionClosed as error:
            raise InputError(f"the server ended the session: {error}") from error
        if isinstance(data, bytes):
            return protocol.parse_binary(data)
        message = protocol.parse_server(data)
        if isinstance(message, protocol.Trouble) and message.fatal:
            raise InputError(message.message)
        return message

    def _send(self, packet: protocol.Binary) -> None:
        self._number += 1
        self._give(packet.packed())

    def _give(self, data: str | bytes) -> None:
        try:
            self._open().send(data)
        except ConnectionClosed as error:
            raise InputError(f"the server ended the session: {error}") from error

    def _unreachable(self, error: Exception) -> InputError:
        return InputError(f"{self.address} does not answer as a vivant server: {error}")

    def _open(self) -> ClientConnection:
        if self._socket is None:
            raise RuntimeError("there is no session; call start first")
        return self._socket

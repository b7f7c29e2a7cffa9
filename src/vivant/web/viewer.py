"""One WebSocket: a viewer's messages and packets in, pictures out, and nothing that grows in between.

    hello -> room -> portrait -> ready
    packets -> decode -> LiveStream.offer ... look -> draw -> finish, encode -> packets
    viewed  -> latency contract -> pace
    end     -> LiveStream.end, and when all of its pictures were viewed the session is over

A file's packets wait for their turn in a Backlog, so that the words behind them are heard in any case.

Frames are looked at, finished and encoded one after another, and drawn side by side where the engine can and where
there are workers for it (house.py).

At most IN_FLIGHT pictures, and as many more as a preset may give at once, are on their way without having been reported
as viewed; beyond that a camera's pictures are dropped before they are encoded, and a file waits. So a slow line cannot
pile up lag either.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from contextlib import nullcontext
from functools import partial
from time import monotonic
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from vivant import records
from vivant.engine import Engine, Portrait
from vivant.errors import InputError, VivantError
from vivant.live.latency import check_promise
from vivant.live.stream import LiveSettings, LiveStream, Looked, Shown
from vivant.web import protocol
from vivant.web.backlog import Backlog, Ordered
from vivant.web.delivery import LOST_SECONDS, Ears, deliver
from vivant.web.house import BusyError, House, changed_options
from vivant.web.line import Line, change_options, until_one_ends
from vivant.web.sandbox import FrameDecoder, frame_decoder
from vivant.web.speech import converse
from vivant.web.told import for_viewers, unmendable
from vivant.web.uploads import UnknownUploadError

IN_FLIGHT = 6
HELLO_SECONDS = 20.0
IDLE_SECONDS = 60.0
"""A viewer that says nothing for this long is gone, unless it has nothing to say."""

log = logging.getLogger(__name__)


async def serve_viewer(socket: WebSocket, house: House) -> None:
    """The whole life of one connection."""
    await socket.accept()
    line = Line(socket)
    try:
        async with asyncio.timeout(house.serving.max_session_minutes * 60):
            await _serve(line, house)
        await socket.close(1000)
    except WebSocketDisconnect:
        return
    except TimeoutError:
        await _end(socket, line, "protocol", "the session lasted too long or was silent for too long")
    except BusyError as error:
        await _end(socket, line, "busy", str(error))
    except UnknownUploadError as error:
        await _end(socket, line, "portrait", str(error))
    except InputError as error:
        await _end(socket, line, "input", str(error))
    except VivantError as error:
        await _end(socket, line, "server", unmendable(error))


async def _serve(line: Line, house: House) -> None:
    hello = await line.hear(HELLO_SECONDS)
    if not isinstance(hello, protocol.Hello):
        raise InputError("the first message is hello")
    if hello.version != protocol.VERSION:
        raise InputError(
            f"this server speaks version {protocol.VERSION}, not {hello.version}; reload the page"
        )
    owner = house.owner_of(hello.token)
    if owner is None:
        raise InputError("the token is missing or wrong")
    if house.closing.is_set():
        raise InputError("the server is shutting down")
    offer = house.workshop.offers.named(hello.preset)
    _, picture = house.uploads.get(owner, hello.portrait, "picture")
    with house.rooms.room(owner):
        with for_viewers(offer, picture):
            engine = await house.workshop.engine(offer)
            portrait = await house.workshop.portrait(offer, picture, hello.face)
        options = changed_options(engine.options_type(), hello.options)
        if hello.mode == "voice":
            await converse(line, house, hello, portrait, options)
            return
        # aiortc decodes by itself, in this process.
        decoding = frame_decoder(hello.send) if hello.transport == "websocket" else nullcontext()
        async with decoding as decoder:
            await _Viewer(line, house, hello, decoder).run(engine, portrait, options)


async def _end(socket: WebSocket, line: Line, code: Any, message: str) -> None:
    """Say why, and go; the viewer may be gone already."""
    try:
        await line.tell(protocol.Trouble(code=code, message=message, fatal=True))
        await socket.close(4000, message[:100])
    except (WebSocketDisconnect, RuntimeError):
        return


class _Viewer:
    """A camera or a file that drives."""

    def __init__(self, line: Line, house: House, hello: protocol.Hello, decoder: FrameDecoder | None) -> None:
        self._line, self._house, self._hello, self._decoder = line, house, hello, decoder
        self._is_camera = hello.mode == "camera"
        ears = Ears(picture=self._offer)
        self._delivery = deliver(line, house.serving, hello, hello.rate_hz, ears)
        self._in_flight: deque[tuple[int, float]] = deque()
        """Numbers of the pictures that were sent and not seen yet, and when."""
        self._num_unsent = 0
        self._backlog = Backlog()
        """Of a file; a camera waits for nothing but decoding."""
        self._has_said_end = self._is_ending = False
        """Whether `end` was heard, and whether everything before it was done."""
        self._rests = False
        """Whether nothing waits to be looked at."""
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._drawn: asyncio.Queue[tuple[Looked, asyncio.Task[None]]] = asyncio.Queue(1)
        """The frame that is shown next, drawn or being drawn."""
        self._drawings: set[asyncio.Task[None]] = set()
        self._slot = asyncio.Event()
        """Set when a drawing is done."""
        self._pace: protocol.Pace | None = None

    async def run(self, engine: Engine, portrait: Portrait, options: Any) -> None:
        hello, house = self._hello, self._house
        self._engine, self._portrait = engine, portrait
        name = secrets.token_hex(4)  # 32 bits, also in every picture
        self._stream = stream = LiveStream(engine, portrait, options, self._settings(name))
        if self._is_camera:  # a file is promised nothing
            check_promise(engine.stream, hello.rate_hz, hello.max_latency_ms)
        height, width = stream.frame_size
        await self._line.tell(
            protocol.Ready(
                session=name,
                preset=self._house.workshop.offers.named(hello.preset).name,
                width=width,
                height=height,
                options=records.to_data(stream.options),
                rate_hz=hello.rate_hz,
                sample_rate_hz=None,
                ice_servers=self._delivery.ice_servers,
                latency_frames=engine.stream.latency_frames,
            )
        )
        log.info("session begins", extra={"session": name, "mode": hello.mode})
        try:
            parts = self._listen, self._catch_up, self._look, self._show, self._report, *self._delivery.parts
            await until_one_ends(house.closing, *parts)
        finally:
            for drawing in self._drawings:
                drawing.cancel()
            await self._delivery.close()
            await house.workshop.run(stream.close)
            house.metrics.frames_dropped_total += self._num_dropped
            log.info("session ends", extra={"session": name, "shown": stream.counts.shown})

    def _settings(self, name: str) -> LiveSettings:
        hello = self._hello
        return LiveSettings(
            policy="newest" if self._is_camera else "wait",
            rate_hz=hello.rate_hz,
            side_px=hello.side_px,
            max_latency_ms=min(hello.max_latency_ms, 60_000),
            driving_face=hello.driving_face,
            paste_back=hello.paste_back,
            seed=hello.seed,
            watermark=int(name, 16) if self._house.serving.watermark else None,
        )

    async def _listen(self) -> None:
        """Never waits for what only another word could bring about."""
        while True:
            try:
                heard = await self._line.hear(IDLE_SECONDS)
            except TimeoutError:
                if self._owes:
                    continue
                raise
            match heard:
                case protocol.Viewed():
                    self._viewed(heard)
                case protocol.WantKey():
                    self._delivery.want_key()
                case protocol.Offer():
                    await self._line.tell(await self._delivery.answer(heard))
                case protocol.Hello() | protocol.Interrupt():
                    raise InputError(f"{heard.type} is not for this mode")
                case _ if self._has_said_end:
                    raise InputError("after end nothing comes but viewed and want_key")
                case _ if self._is_camera:
                    await self._do(heard)
                case _:
                    self._has_said_end = isinstance(heard, protocol.End)
                    self._backlog.put(heard)

    @property
    def _owes(self) -> bool:
        """Whether a file's viewer has nothing to say before something is drawn."""
        is_at_work = self._backlog or not self._rests or self._drawings or not self._drawn.empty()
        return bool(is_at_work and not self._is_camera and not self._in_flight)

    async def _catch_up(self) -> None:
        while True:
            await self._do(await self._backlog.take())

    async def _do(self, heard: Ordered) -> None:
        match heard:
            case protocol.Binary():
                await self._take(heard)
            case protocol.Restart():
                self._stream.restart()
            case protocol.ChangeOptions():
                await change_options(self._line, heard, self._stream, self._engine, self._portrait)
            case protocol.End():
                if self._is_camera:
                    raise InputError("end is not for this mode")
                self._is_ending = True
                self._wake.set()

    async def _take(self, packet: protocol.Binary) -> None:
        if packet.kind is not protocol.Kind.PICTURE:
            raise InputError("sound is for the mode voice")
        if self._decoder is None:
            raise InputError("pictures come as a track of the peer connection, not as packets")
        image = await self._decoder.decode(packet.payload)
        if image is None:
            return
        await self._offer(image, packet.captured_ms / 1000, packet.number)

    async def _offer(self, image: np.ndarray, seconds: float, number: int) -> None:
        while not self._stream.offer(image, seconds, number):
            if self._is_camera:
                return
            self._room.clear()
            await self._room.wait()
        self._wake.set()

    def _viewed(self, message: protocol.Viewed) -> None:
        while self._in_flight and self._in_flight[0][0] <= message.number:
            self._in_flight.popleft()
        self._room.set()
        if message.latency_ms is None:
            return
        self._house.metrics.latency.add(message.latency_ms / 1000)
        if self._stream.viewed(message.latency_ms / 1000):
            contract = self._stream.contract
            level = contract.level
            self._pace = protocol.Pace(rate_hz=level.rate_hz, side_px=level.side_px, kept=contract.kept)

    async def _look(self) -> None:
        run = self._house.workshop.run
        while True:
            while len(self._drawings) >= self._most_drawings:  # a frame that waited would be old
                self._slot.clear()
                await self._slot.wait()
            is_ending = self._is_ending  # before looking: then nothing can have come since
            looked = await run(self._stream.look)
            if looked is None and is_ending:
                looked = await run(self._stream.end)
            if looked is None:
                self._rests = True
                await self._wake.wait()
                self._wake.clear()
                self._rests = False
                continue
            self._room.set()
            if self._tells_taken and looked.number is not None:
                await self._line.tell(protocol.Taken(number=looked.number))
            drawing = asyncio.create_task(run(partial(self._stream.draw, looked)))
            self._drawings.add(drawing)
            drawing.add_done_callback(self._has_drawn)
            await self._drawn.put((looked, drawing))
            if looked.number is None:
                await asyncio.Event().wait()  # for ever: `_show` ends the session

    @property
    def _tells_taken(self) -> bool:
        return self._is_camera and self._hello.acknowledge and self._engine.stream.latency_frames > 0

    @property
    def _most_drawings(self) -> int:
        """A worker for each, shared among the sessions."""
        house = self._house
        return max(1, house.workshop.num_workers // house.metrics.sessions) if self._stream.draws_apart else 1

    def _has_drawn(self, drawing: asyncio.Task[None]) -> None:
        self._drawings.discard(drawing)
        self._slot.set()

    async def _show(self) -> None:
        """Finish, encode and send, while the next pictures are drawn; returns once the last was viewed."""
        while True:
            looked, drawing = await self._drawn.get()
            await drawing
            for picture in await asyncio.to_thread(self._stream.finish, looked):
                await self._send(picture)
            if looked.number is None:
                await self._until_fewer_than(1)
                return

    async def _send(self, picture: Shown) -> None:
        now = monotonic()
        while self._delivery.may_lose and self._in_flight and self._in_flight[0][1] < now - LOST_SECONDS:
            self._in_flight.popleft()
        most = IN_FLIGHT + self._engine.stream.latency_frames
        if self._is_camera and len(self._in_flight) >= most:
            self._num_unsent += 1
            return
        await self._until_fewer_than(most)
        self._in_flight.append((picture.number, now))
        self._house.metrics.frames_shown_total += 1
        await self._delivery.picture(picture.image, picture.number, picture.captured_seconds)

    async def _until_fewer_than(self, count: int) -> None:
        """Wait until fewer pictures than that are on their way."""
        while len(self._in_flight) >= count:
            self._room.clear()
            await self._room.wait()

    @property
    def _num_dropped(self) -> int:
        counts = self._stream.counts
        return counts.paced + counts.replaced + self._num_unsent + self._delivery.num_dropped

    async def _report(self) -> None:
        busy = 0.0
        while True:
            await asyncio.sleep(1)
            stream, meter = self._stream, self._stream.latency
            if self._pace is not None:
                pace, self._pace = self._pace, None
                await self._line.tell(pace)
            counts = stream.counts
            p50, p95 = (meter.quantile(share) * 1000 if meter.count else None for share in (0.5, 0.95))
            await self._line.tell(
                protocol.Stats(
                    shown=counts.shown,
                    dropped=self._num_dropped,
                    without_face=counts.without_face,
                    latency_p50_ms=p50,
                    latency_p95_ms=p95,
                    latency_max_ms=meter.max_seconds * 1000 if meter.count else None,
                    busy=min(1.0, stream.busy_seconds - busy),
                )
            )
            busy = stream.busy_seconds

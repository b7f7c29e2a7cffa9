"""The words of a live connection, version 1: typed JSON messages and binary packets. See docs/protocol.md.

Everything that a stranger can send is checked here: unknown messages and fields, wrong types and values out of range
are refused with a sentence.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vivant.errors import InputError
from vivant.media.packets import PacketCodec

VERSION = 1
MAX_TEXT_BYTES = 16_384
MAX_PACKET_BYTES = 4_000_000
_HEADER = struct.Struct("<BBHIdHH4x")
"""kind, flags, reserved, number, capture time in ms, width, height, padding to 24 bytes."""
HEADER_BYTES = _HEADER.size


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hello(_Message):
    """First, from the viewer: what it wants."""

    type: Literal["hello"] = "hello"
    version: int
    token: Annotated[str, Field(max_length=512)] | None = None
    portrait: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22}$")]
    """From POST /v1/portraits."""
    face: Annotated[str, Field(max_length=40)] = "largest"
    preset: Annotated[str, Field(max_length=64)] | None = None
    """None: the server's default."""
    mode: Literal["camera", "file", "voice"] = "camera"
    """camera: newest frame wins. file: nothing is dropped. voice: sound drives, pictures never stop."""
    send: PacketCodec = "jpeg"
    """How the viewer's frames come."""
    receive: PacketCodec = "jpeg"
    transport: Literal["websocket", "webrtc"] = "websocket"
    """How pictures travel. webrtc: as tracks, agreed on by `offer` and `answer`; send and receive are idle."""
    rate_hz: Annotated[float, Field(ge=1, le=60)] = 25.0
    side_px: Annotated[int, Field(ge=64, le=1280)] = 512
    max_latency_ms: Annotated[float, Field(ge=20, le=60_000)] = 300.0
    driving_face: Annotated[str, Field(max_length=40)] | None = "largest"
    paste_back: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    acknowledge: bool = False
    """Mode camera: tell `taken`, where the preset has `latency_frames`."""
    options: dict[str, Any] = {}


class ChangeOptions(_Message):
    """From the viewer: the family's options, those named; the others keep their values."""

    type: Literal["options"] = "options"
    options: dict[str, Any]


class Restart(_Message):
    """From the viewer: the next face is what motion is relative to."""

    type: Literal["restart"] = "restart"


class Viewed(_Message):
    """From the viewer: this picture is on the screen now, so long after its capture."""

    type: Literal["viewed"] = "viewed"
    number: Annotated[int, Field(ge=0)]
    latency_ms: Annotated[float, Field(ge=0, le=600_000)] | None
    """None: the capture time is not known."""


class End(_Message):
    """From the viewer, mode file: that was the last frame; the pictures that are still owed, and then the end."""

    type: Literal["end"] = "end"


class Interrupt(_Message):
    """From an agent, mode voice: stop speaking."""

    type: Literal["interrupt"] = "interrupt"


class WantKey(_Message):
    """From the viewer: its decoder lost the thread; send a key frame."""

    type: Literal["want_key"] = "want_key"


class Offer(_Message):
    """From the viewer, transport webrtc: its session description, with all its candidates."""

    type: Literal["offer"] = "offer"
    sdp: Annotated[str, Field(max_length=MAX_TEXT_BYTES)]


class IceServer(_Message):
    """Where a peer learns its addresses, as RTCPeerConnection takes it."""

    urls: str
    username: str | None = None
    credential: str | None = None


class Ready(_Message):
    """First, from the server."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    session: str
    preset: str
    width: int
    height: int
    options: dict[str, Any]
    """All options of the family with their present values."""
    rate_hz: float
    sample_rate_hz: int | None
    """Mode voice: of the sound in both directions."""
    ice_servers: list[IceServer] = []
    """Transport webrtc: what the viewer's peer connection is to use."""
    latency_frames: int = 0
    """Frames that the preset takes, beyond the first, before the first picture comes: a viewer that waits for a
    picture with fewer than so many on their way waits for ever."""


class Pace(_Message):
    """From the server: what the latency contract asks of the viewer now."""

    type: Literal["pace"] = "pace"
    rate_hz: float
    side_px: int
    kept: bool
    """False: not even this level keeps the promise."""


class Stats(_Message):
    """From the server, once a second."""

    type: Literal["stats"] = "stats"
    shown: int
    dropped: int
    without_face: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_max_ms: float | None
    busy: float
    """Share of the time that this session's drawing took."""


class Taken(_Message):
    """From the server: this frame, and all before it, wait no more; its picture may come much later."""

    type: Literal["taken"] = "taken"
    number: int


class OptionsNow(_Message):
    """From the server: a change of options was made."""

    type: Literal["options_now"] = "options_now"
    options: dict[str, Any]


class Answer(_Message):
    """From the server: its session description."""

    type: Literal["answer"] = "answer"
    sdp: str


class Sent(_Message):
    """From the server, transport webrtc: a picture has left, with this RTP timestamp."""

    type: Literal["sent"] = "sent"
    number: int
    """Of the frame that drove it, as the server received them."""
    rtp_timestamp: int
    captured_ms: float | None
    """Capture of that frame on the viewer's wall clock (Unix ms), by its RTCP sender reports; None before the first."""


class Trouble(_Message):
    """From the server: what is wrong and what to do. Fatal ones are followed by the end of the connection."""

    type: Literal["error"] = "error"
    code: Literal["protocol", "portrait", "busy", "input", "options", "server"]
    message: str
    fatal: bool


FromViewer: TypeAlias = Annotated[
    Hello | ChangeOptions | Restart | Viewed | End | Interrupt | WantKey | Offer, Field(discriminator="type")
]
FromServer: TypeAlias = Annotated[
    Ready | Pace | Stats | Taken | OptionsNow | Answer | Sent | Trouble, Field(discriminator="type")
]
_from_viewer: TypeAdapter[FromViewer] = TypeAdapter(FromViewer)
_from_server: TypeAdapter[FromServer] = TypeAdapter(FromServer)


class Kind(IntEnum):
    """Of a binary packet."""

    PICTURE = 1
    SOUND = 2
    """16-bit signed mono samples, little-endian."""


@dataclass(frozen=True)
class Binary:
    """A packet with its header."""

    kind: Kind
    is_key: bool
    number: int
    """Counted by the sender; pictures from the server carry the number of the frame that drove them."""
    captured_ms: float
    """On the viewer's clock; pictures from the server carry that of the frame that drove them."""
    width: int
    height: int
    payload: bytes

    def packed(self) -> bytes:
        head = _HEADER.pack(
            self.kind, int(self.is_key), 0, self.number, self.captured_ms, self.width, self.height
        )
        return head + self.payload


def parse_viewer(text: str) -> FromViewer:
    """A message of a viewer. Raises InputError."""
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"a message has at most {MAX_TEXT_BYTES} characters, got {len(text)}")
    return _parsed(_from_viewer, text)


def parse_server(text: str) -> FromServer:
    """A message of a server. Raises InputError."""
    return _parsed(_from_server, text)


def parse_binary(data: bytes) -> Binary:
    """A packet of either side. Raises InputError."""
    if not HEADER_BYTES < len(data) <= MAX_PACKET_BYTES:
        raise InputError(f"a packet has {HEADER_BYTES + 1} to {MAX_PACKET_BYTES} bytes, got {len(data)}")
    kind, flags, reserved, number, captured_ms, width, height = _HEADER.unpack_from(data)
    if kind not in tuple(Kind) or flags > 1 or reserved or not math.isfinite(captured_ms):
        raise InputError("a packet begins with a header that this version does not know")
    return Binary(Kind(kind), bool(flags), number, captured_ms, width, height, data[HEADER_BYTES:])


def _parsed(adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the message"
        raise InputError(f"{place}: {first['msg']}") from error
    except RecursionError as error:
        raise InputError("the message is nested too deeply") from error

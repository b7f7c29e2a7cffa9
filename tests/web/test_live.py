"""Live sessions through the whole server: equal to offline, isolated, bounded, and hard to upset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient, WebSocketTestSession

import vivant
from vivant.marks.watermark import Marker
from vivant.media.packets import PacketCodec, PacketDecoder, PacketEncoder
from vivant.web import protocol
from vivant.web.app import build
from vivant.web.house import halve_threads
from vivant.web.settings import Serving

from .conftest import HOST, noise, png

FRAMES = 8


class Viewer:
    """One socket of the test client, speaking the protocol."""

    def __init__(self, socket: WebSocketTestSession, receive: PacketCodec = "png") -> None:
        self.socket, self.decoder = socket, PacketDecoder(receive)
        self.number = 0
        self.told: list[Any] = []

    def start(self, portrait: str, **wanted: Any) -> Any:
        wanted = {
            "mode": "file",
            "send": "png",
            "receive": "png",
            "face": "none",
            "driving_face": None,
        } | wanted
        self.socket.send_text(protocol.Hello(version=1, portrait=portrait, **wanted).model_dump_json())
        return protocol.parse_server(self.socket.receive_text())

    def push(self, image: np.ndarray, encoder: PacketEncoder | None = None) -> None:
        packet = (encoder or PacketEncoder("png")).encode(image)
        kind, when = protocol.Kind.PICTURE, self.number * 40.0
        binary = protocol.Binary(
            kind, packet.is_key, self.number, when, packet.width, packet.height, packet.data
        )
        self.socket.send_bytes(binary.packed())
        self.number += 1

    def say(self, samples: np.ndarray) -> None:
        """int16 mono (S,) at 16 kHz."""
        self.socket.send_bytes(
            protocol.Binary(protocol.Kind.SOUND, False, 0, 0.0, 0, 0, samples.tobytes()).packed()
        )

    def picture(self) -> np.ndarray:
        while True:
            message = self.socket.receive()
            if message.get("bytes") is not None:
                packet = protocol.parse_binary(message["bytes"])
                if packet.kind is protocol.Kind.SOUND:
                    continue
                viewed = protocol.Viewed(number=packet.number, latency_ms=12)
                self.socket.send_text(viewed.model_dump_json())
                image = self.decoder.decode(packet.payload)
                assert image is not None
                return image
            assert message["type"] == "websocket.send", message
            self.told.append(protocol.parse_server(message["text"]))

    def said(self, kind: type) -> Any:
        """The next message of that kind."""
        while True:
            message = protocol.parse_server(self.socket.receive_text())
            if isinstance(message, kind):
                return message


@contextmanager
def viewer(client: TestClient, receive: PacketCodec = "png") -> Iterator[Viewer]:
    with client.websocket_connect("ws://127.0.0.1/v1/live") as socket:
        yield Viewer(socket, receive)


def upload(client: TestClient, seed: int) -> str:
    return str(client.post("/v1/portraits", content=png(noise(seed))).json()["id"])


def driving(seed: int) -> list[np.ndarray]:
    return [noise(seed * 100 + index) for index in range(FRAMES)]


def offline(tiny: Path, portrait: int, clip: int) -> list[np.ndarray]:
    engine = vivant.load(tiny)
    prepared = engine.prepare(noise(portrait), face=None)
    return list(vivant.animate(engine, prepared, driving(clip), frame_rate=25, driving_face=None))


def test_two_users_at_once_get_what_each_would_get_alone_offline(client: TestClient, tiny: Path) -> None:
    names = [upload(client, seed) for seed in (1, 2)]
    markers = []
    with viewer(client) as first, viewer(client) as second:
        for user, name in zip((first, second), names, strict=True):
            markers.append(Marker(int(user.start(name).session, 16)))
        got: list[list[np.ndarray]] = [[], []]
        clips = [driving(1), driving(2)]
        for index in range(FRAMES):
            for which, user in enumerate((first, second)):
                user.push(clips[which][index])
            for which, user in enumerate((second, first)):
                got[1 - which].append(user.picture())
    for which in range(2):
        expected = [markers[which].mark(frame) for frame in offline(tiny, which + 1, which + 1)]
        assert all(np.array_equal(a, b) for a, b in zip(got[which], expected, strict=True))
    assert not np.array_equal(got[0][-1], got[1][-1])


def test_a_camera_that_nobody_watches_loses_frames_and_keeps_no_more_than_a_few(client: TestClient) -> None:
    name = upload(client, 1)
    with viewer(client, "h264") as user:
        user.start(name, mode="camera", send="h264", receive="h264", rate_hz=60)
        encoder = PacketEncoder("h264")
        for index in range(60):
            user.push(noise(index), encoder)
        stats = user_stats(user, 60)
        assert stats.shown + stats.dropped >= 59
        assert stats.dropped >= 60 - 6 - 1  # six in flight, one in the inbox
        assert stats.latency_p50_ms is None


def user_stats(user: Viewer, frames: int) -> protocol.Stats:
    """Stats once all frames are accounted for, without viewing any picture."""
    while True:
        message = user.socket.receive()
        if message.get("text"):
            told = protocol.parse_server(message["text"])
            if isinstance(told, protocol.Stats) and told.shown + told.dropped >= frames - 1:
                return told


def test_options_change_between_frames_or_are_refused_with_a_reason(client: TestClient) -> None:
    with viewer(client) as user:
        ready = user.start(upload(client, 1), options={"smoothing_ms": 0.0})
        assert ready.options["smoothing_ms"] == 0.0
        user.push(noise(1))
        user.push(noise(2))
        before = [user.picture() for _ in range(2)][1]
        for options, said in (
            ({"driving_multiplier": 9}, "driving_multiplier"),
            ({"nonsense": 1}, "nonsense"),
            ({"relative": "yes"}, "relative"),
            ({"eye_retargeting": True}, "eye"),
        ):
            user.socket.send_json({"type": "options", "options": options})
            refused = user.said(protocol.Trouble)
            assert said in refused.message
            assert not refused.fatal
            assert user.said(protocol.OptionsNow).options == ready.options
        user.socket.send_json({"type": "options", "options": {"driving_multiplier": 0.0}})
        assert user.said(protocol.OptionsNow).options["driving_multiplier"] == 0.0
        user.push(noise(2))
        assert not np.array_equal(user.picture(), before)


def test_there_is_room_for_so_many_and_it_is_given_back(serving: Callable[..., Serving]) -> None:
    app, house = build(serving(max_user_sessions=1))
    with TestClient(app, base_url=HOST) as client:
        name = upload(client, 1)
        with viewer(client) as first:
            assert first.start(name).type == "ready"
            with viewer(client) as second:
                told = second.start(name)
                assert (told.code, told.fatal) == ("busy", True)
        with viewer(client) as third:
            assert third.start(name).type == "ready"
    assert house.metrics.sessions == 0
    assert house.metrics.refused_total == 1


@pytest.mark.parametrize(
    "nonsense",
    [
        "not json",
        '{"type": "viewed", "number": 0, "latency_ms": 0}',
        '{"type": "hello", "version": 99, "portrait": "AAAAAAAAAAAAAAAAAAAAAA"}',
        '{"type": "hello", "version": 1, "portrait": "AAAAAAAAAAAAAAAAAAAAAA"}',
        '{"type": "hello", "version": 1, "portrait": "NAME", "options": {"region": "feet"}}',
        '{"type": "hello", "version": 1, "portrait": "NAME", "preset": "other"}',
        '{"type": "hello", "version": 1, "portrait": "NAME", "face": "7"}',
        b"\x01" + bytes(40),
    ],
)
def test_a_wrong_beginning_ends_with_a_sentence(client: TestClient, nonsense: str | bytes) -> None:
    name = upload(client, 1)
    with client.websocket_connect("ws://127.0.0.1/v1/live") as socket:
        if isinstance(nonsense, bytes):
            socket.send_bytes(nonsense)
        else:
            socket.send_text(nonsense.replace("NAME", name))
        told = protocol.parse_server(socket.receive_text())
        assert isinstance(told, protocol.Trouble)
        assert told.fatal
        assert told.message
        assert socket.receive()["type"] == "websocket.close"
    assert client.get("/metrics").text.startswith("# TYPE vivant_sessions gauge\nvivant_sessions 0\n")


def test_random_messages_in_a_session_never_break_the_server(client: TestClient, tiny: Path) -> None:
    name = upload(client, 1)
    random = np.random.default_rng(0)
    good = protocol.Binary(protocol.Kind.PICTURE, True, 0, 0.0, 64, 64, png(noise(1))).packed()
    for _ in range(8):  # frames alone: test_frames
        with viewer(client) as user:
            user.start(name)
            data = bytearray(good)
            for position in random.integers(0, len(data), 12):
                data[position] = random.integers(256)
            user.socket.send_bytes(bytes(data[: random.integers(1, len(data))]))
            user.socket.send_text(bytes(random.integers(32, 127, 30, dtype=np.uint8)).decode())
            while True:
                message = user.socket.receive()
                if message["type"] == "websocket.close":
                    break
    with viewer(client) as user:  # and the next user is served as if nothing had been
        marker = Marker(int(user.start(name).session, 16))
        for image in driving(3):
            user.push(image)
        got = [user.picture() for _ in range(FRAMES)]
    expected = [marker.mark(frame) for frame in offline(tiny, 1, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def typed_nonsense(random: np.random.Generator) -> str | bytes:
    """A message whose form is right, or nearly."""
    number, value = int(random.integers(2**32)), float(random.normal() * 10.0 ** random.integers(-3, 12))
    anything = random.choice(np.array([value, None, True, "", [], {"a": []}, -1, "x" * 200], object))
    option = str(
        random.choice(["relative", "smoothing_ms", "region", "eyes_open", "driving_multiplier", "__class__"])
    )
    texts = [
        {"type": "viewed", "number": number, "latency_ms": abs(value)},
        {"type": "viewed", "number": number, "latency_ms": None},
        {"type": "options", "options": {option: anything}},
        {"type": "options", "options": anything},
        {"type": "restart"},
        {"type": "want_key"},
        {"type": "interrupt"},
        {"type": "offer", "sdp": "v=0"},
        {"type": option, "options": {}},
    ]
    if random.random() < 0.4:
        payload = [png(noise(1)), bytes(7), png(noise(1))[:99]][random.integers(3)]
        packet = protocol.Binary(
            protocol.Kind.PICTURE, bool(number % 2), number, value, 64, 64, payload
        ).packed()
        return packet if random.random() < 0.8 else bytes([random.integers(256)]) + packet[1:]
    return json.dumps(texts[random.integers(len(texts))])


@pytest.mark.parametrize("mode", ["camera", "file"])
def test_messages_in_any_order_never_break_the_server(client: TestClient, mode: str) -> None:
    """Each session goes on or ends with a sentence; a fault of the server would come out of the test's client."""
    name, random = upload(client, 1), np.random.default_rng(5)
    endings = 0
    for _ in range(5):
        with viewer(client) as user:
            user.start(name, mode=mode)
            for _ in range(40):
                message = typed_nonsense(random)
                if isinstance(message, bytes):
                    user.socket.send_bytes(message)
                else:
                    user.socket.send_text(message)
            user.socket.send_text("the end")  # no message: fatal wherever the others were not
            while (told := user.socket.receive())["type"] != "websocket.close":
                if told.get("text"):
                    last = protocol.parse_server(told["text"])
            assert isinstance(last, protocol.Trouble)
            assert last.fatal
            endings += told["code"] == 4000
    assert endings == 5
    assert client.get("/healthz").json() == {"status": "ok"}
    assert "vivant_sessions 0" in client.get("/metrics").text


def test_every_metric_is_documented(client: TestClient) -> None:
    written = (Path(__file__).parents[2] / "docs" / "live.md").read_text("utf-8")
    names = [
        line.split()[2] for line in client.get("/metrics").text.splitlines() if line.startswith("# TYPE")
    ]
    assert len(names) == 12
    assert not [name for name in names if f"`{name}" not in written]


def test_an_ending_server_says_so_and_deletes_uploads(serving: Callable[..., Serving]) -> None:
    app, house = build(serving())
    with TestClient(app, base_url=HOST) as client:
        name = upload(client, 1)
        with viewer(client) as user:
            user.start(name)
            assert client.portal is not None
            client.portal.call(house.closing.set)
            assert "shutting down" in user.said(protocol.Trouble).message
        assert client.get("/healthz").json() == {"status": "ending"}
    assert not list(house.uploads.folder.iterdir())


def test_one_picture_takes_half_of_the_cores_unless_its_share_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setattr("vivant.web.house.num_cores", lambda: 6)
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        halve_threads()
        assert torch.get_num_threads() == before[0]
        monkeypatch.delenv("OMP_NUM_THREADS")
        halve_threads()
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (3, 3)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])

"""Live sessions over WebRTC with real peers on this machine: the same session, tracks instead of packets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from starlette.testclient import TestClient

import vivant
from vivant.errors import InputError
from vivant.marks.watermark import Marker
from vivant.media.tracks import SOUND_BLOCK, SOUND_HZ, frame_of, sound_frame
from vivant.web import protocol
from vivant.web.app import build
from vivant.web.client import LiveClient
from vivant.web.delivery import Ears
from vivant.web.house import House
from vivant.web.line import Line
from vivant.web.peer import Peer
from vivant.web.rtc_client import RtcClient
from vivant.web.rtp import Moment
from vivant.web.settings import Serving
from vivant.web.streams import Held

from .conftest import HOST, noise, png, running

SIDE = 64
TOKEN = "a-token-of-some-length"


class Camera(MediaStreamTrack):
    """One picture after the other, 25 a second."""

    kind = "video"

    def __init__(self, images: list[np.ndarray]) -> None:
        super().__init__()
        self._images, self._count = images, 0

    async def recv(self) -> Any:
        await asyncio.sleep(0.04)
        frame = frame_of(self._images[self._count % len(self._images)], self._count * 3600)
        self._count += 1
        return frame


class Tone(MediaStreamTrack):
    """A tone, 20 ms after 20 ms."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._start = 0

    async def recv(self) -> Any:
        await asyncio.sleep(0.02)
        samples = 8000 * np.sin(np.arange(self._start, self._start + SOUND_BLOCK) * 0.05)
        frame = sound_frame(samples.astype(np.int16), SOUND_HZ, self._start)
        self._start += SOUND_BLOCK
        return frame


@pytest.fixture
def server(serving: Callable[..., Serving]) -> Iterator[tuple[str, House]]:
    app, house = build(serving(webrtc=True, max_user_sessions=2))
    with running(app) as address:
        yield address, house


def portrait(address: str, tmp_path: Path, seed: int) -> str:
    path = tmp_path / f"{seed}.png"
    path.write_bytes(png(noise(seed)))
    return LiveClient(address).upload(path)


def hello(name: str, **wanted: Any) -> protocol.Hello:
    given = {"face": "none", "driving_face": None, "transport": "webrtc", "max_latency_ms": 60_000} | wanted
    return protocol.Hello(version=1, portrait=name, **given)


def test_two_cameras_with_sound_drive_two_portraits(server: tuple[str, House], tmp_path: Path) -> None:
    address, house = server
    names = [portrait(address, tmp_path, seed) for seed in (1, 2)]

    async def session(which: int) -> tuple[str, Any, list[protocol.FromServer]]:
        async with RtcClient(address) as client:
            ready = await client.start(
                hello(names[which]), camera=Camera([noise(10 + which)]), microphone=Tone()
            )
            last = await asyncio.wait_for(anext(matched(client, 30)), 60)
            async for samples in client.sound():
                if np.abs(samples).max() > 0.1:  # held back until its pictures were shown, then heard
                    break
            while not any(isinstance(m, protocol.Stats) and m.latency_p95_ms for m in client.messages):
                await asyncio.sleep(0.1)
            return ready.session, last, client.messages

    async def both() -> Any:
        return await asyncio.gather(session(0), session(1))

    for which, (name, seen, messages) in enumerate(asyncio.run(both())):
        expected = Marker(int(name, 16)).mark(offline(house, which + 1, 10 + which))
        other = offline(house, 2 - which, 11 - which)
        assert seen.image.shape == expected.shape
        assert error(seen.image, expected) < 6 < error(seen.image, other)
        assert not [m for m in messages if isinstance(m, protocol.Trouble)]
    assert house.metrics.sessions == 0
    assert house.metrics.latency.count > 0


def test_rooms_are_counted_whatever_the_transport(server: tuple[str, House], tmp_path: Path) -> None:
    address, house = server
    name = portrait(address, tmp_path, 1)

    async def three() -> None:
        async with RtcClient(address) as first, RtcClient(address) as second, RtcClient(address) as third:
            for client in (first, second):
                await client.start(hello(name), camera=Camera([noise(1)]))
            assert house.metrics.sessions == 2
            await third.start(hello(name), camera=Camera([noise(1)]))

    with pytest.raises(InputError, match="2 of them yours; close one"):
        asyncio.run(three())
    assert house.metrics.refused_total == 1


async def matched(client: RtcClient, at_least: int) -> AsyncIterator[Any]:
    """Pictures of which the server told the capture time, from a number on."""
    async for seen in client.pictures():
        if seen.sent is not None and seen.sent.captured_ms is not None and seen.sent.number >= at_least:
            yield seen


def offline(house: House, seed: int, drive: int) -> np.ndarray:
    engine = vivant.load(house.serving.preset[0])
    made = engine.prepare(noise(seed), face=None)
    return list(vivant.animate(engine, made, [noise(drive)] * 2, frame_rate=25, driving_face=None))[-1]


def error(image: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(image.astype(float) - other).mean())


def test_a_voice_comes_back_with_pictures(tmp_path: Path) -> None:
    app, house = build(Serving(webrtc=True, state=tmp_path / "state"))

    async def speak(address: str, name: str) -> tuple[Any, Any]:
        async with RtcClient(address) as client:
            await client.start(hello(name, mode="voice"), microphone=Tone())
            seen = await asyncio.wait_for(anext(client.pictures()), 60)
            async for samples in client.sound():
                if np.abs(samples).max() > 0.1:
                    return seen, samples
        raise AssertionError("sound ends by raising")

    with running(app) as address:
        seen, samples = asyncio.run(speak(address, portrait(address, tmp_path, 1)))
    assert seen.image.shape[2] == 3
    assert samples.dtype == np.float32
    assert house.metrics.sessions == 0


def test_sound_is_held_until_the_picture_of_its_time() -> None:
    held, block = Held(), np.ones(SOUND_BLOCK, np.int16)
    for index in range(100):  # captured at 100 s on the viewer's clock, which is 50 s before ours
        held.put(block * index, Moment(50.1 + index * 0.02, 100 + index * 0.02), 50.2 + index * 0.02)
    assert not held.take(51.0).any()  # no picture yet
    held.picture(Moment(50.2, 100.0), 50.5)
    heard = [int(held.take(51.4 + index * 0.02)[0]) for index in range(5)]
    assert heard in ([45, 46, 47, 48, 49], [44, 45, 46, 47, 48])  # 0.9 s after the capture of the first
    assert not Held().take(1.0).any()
    only_here = Held()
    only_here.put(block, Moment(7.0, None), 7.1)
    only_here.picture(Moment(7.0, None), 7.3)
    assert not only_here.take(7.2).any()
    assert only_here.take(7.3).all()


def test_sound_that_comes_later_than_its_pictures_is_heard_without_gaps() -> None:
    held, block, silent = Held(), np.ones(SOUND_BLOCK, np.int16), 0
    for index in range(200):  # pictures take 30 ms, sound 100 and sometimes 115
        now = index * 0.02
        held.picture(Moment(now - 0.03, None), now)
        held.put(block, Moment(now - 0.1 - 0.015 * (index % 5 == 0), None), now)
        silent += not held.take(now).any()
    assert silent <= 5  # until the first block is due


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"mode": "file"}, "mode file drops nothing"),
        ({"transport": "websocket"}, "needs transport webrtc"),
        ({"sdp": "v=0"}, "one video section"),
        ({"sdp": "v=0\r\nm=video nonsense"}, "cannot be answered"),
        ({"sdp": "v=0\r\n" + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 9}, "one video section"),
        ({"sdp": "v=0\r\nm=video 9 X 1\r\nm=application 9 X 1"}, "nothing else"),
        ({"twice": True}, "takes one offer"),
        ({"large": True}, "send smaller ones"),
        ({"packet": True}, "not as packets"),
    ],
)
def test_what_is_refused(
    server: tuple[str, House], tmp_path: Path, wanted: dict[str, Any], says: str
) -> None:
    address, house = server
    name = portrait(address, tmp_path, 1)
    sdp, twice = wanted.pop("sdp", None), wanted.pop("twice", False)
    large, packet = wanted.pop("large", False), wanted.pop("packet", False)

    async def refused() -> None:
        async with RtcClient(address) as client:
            side = 1600 if large else SIDE
            camera = Camera([np.zeros((side, side, 3), np.uint8)])
            if sdp is not None:
                client_offer(client, sdp)
            await client.start(hello(name, **wanted), camera=camera)
            if twice:
                await client.tell(protocol.Offer(sdp="v=0"))
            if packet:
                binary = protocol.Binary(protocol.Kind.PICTURE, True, 0, 0.0, 64, 64, png(noise(1)))
                await client._open().send(binary.packed())
            async for _ in client.pictures():
                pass

    with pytest.raises(InputError, match=says):
        asyncio.run(asyncio.wait_for(refused(), 60))
    assert house.metrics.sessions == 0


def test_garbled_offers_are_refused_or_answered_and_break_nothing() -> None:
    random = np.random.default_rng(0)

    async def offers() -> list[str]:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for kind in ("video", "audio"):
            connection.addTransceiver(kind, "sendrecv")
        await connection.setLocalDescription(await connection.createOffer())
        good = connection.localDescription.sdp.split("\r\n")
        await connection.close()
        became = []
        for _ in range(40):
            lines = list(good)
            for index in random.integers(0, len(lines) - 3, 3):
                cut = int(random.integers(len(lines[index]) + 1))
                lines[index : index + 1] = [[], [lines[index]] * 2, [lines[index][:cut]]][random.integers(3)]
            peer = Peer(Line(None), Serving(webrtc=True), Ears())  # type: ignore[arg-type]
            try:
                became.append((await peer.answer(protocol.Offer(sdp="\r\n".join(lines)))).type)
            except InputError as error:
                became.append(str(error))
            await peer.close()
        return became

    became = asyncio.run(offers())
    assert 5 < became.count("answer") < 35
    assert all(each == "answer" or "offer" in each for each in became)


def client_offer(client: RtcClient, sdp: str) -> None:
    """Let the client make another offer than its own."""
    tell = client.tell

    async def telling(message: Any) -> None:
        await tell(message.model_copy(update={"sdp": sdp}) if message.type == "offer" else message)

    client.tell = telling  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"stun": "stun:example.org"}, "add --webrtc"),
        ({"webrtc": True, "stun": "example.org"}, "write stun:HOST"),
        ({"webrtc": True, "turn": "https://example.org"}, "write turn:HOST"),
    ],
)
def test_servers_for_addresses_are_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Serving(**given)


def test_viewers_learn_the_turn_server_with_the_session_and_not_before(
    serving: Callable[..., Serving],
) -> None:
    turn = {"turn": "turn:127.0.0.1:9?transport=udp", "turn_user": "u", "turn_password": "a secret word"}
    app, _ = build(serving(webrtc=True, token=TOKEN, **turn))
    headers = {"authorization": f"Bearer {TOKEN}"}
    with TestClient(app, base_url=HOST) as client:
        name = client.post("/v1/portraits", content=png(noise(1)), headers=headers).json()["id"]
        assert "secret" not in client.get("/v1/server", headers=headers).text
        for token in (TOKEN, "another-token-of-some-length"):
            with client.websocket_connect("ws://127.0.0.1/v1/live") as socket:
                socket.send_text(hello(name, token=token).model_dump_json())
                told = protocol.parse_server(socket.receive_text())
            if token == TOKEN:
                assert told.ice_servers[0].model_dump() == dict(
                    zip(("urls", "username", "credential"), turn.values(), strict=True)
                )
            else:
                assert "token" in told.message

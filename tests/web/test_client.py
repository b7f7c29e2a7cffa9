"""The Python client against a server on this machine: what it animates is what would be animated here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vivant
from vivant.errors import InputError
from vivant.marks.watermark import Marker
from vivant.web import protocol
from vivant.web.app import build
from vivant.web.client import LiveClient
from vivant.web.rtc_client import RtcClient
from vivant.web.settings import Serving

from .conftest import hello, noise, png, running


def test_a_program_animates_as_if_the_engine_were_here(
    serving: Callable[..., Serving], tiny: Path, tmp_path: Path
) -> None:
    frames = [noise(index) for index in range(6)]
    app, _ = build(serving())
    with running(app) as address, LiveClient(address) as client:
        marker = Marker(int(client.start(hello(client, tmp_path)).session, 16))
        got = list(client.animate(frames))
        client.tell(protocol.Offer(sdp="v=0"))
        with pytest.raises(InputError, match="needs transport webrtc"):
            client.picture()
    engine = vivant.load(tiny)
    made = engine.prepare(noise(1), face=None)
    expected = vivant.animate(engine, made, frames, frame_rate=25, driving_face=None)
    assert all(np.array_equal(a, marker.mark(b)) for a, b in zip(got, expected, strict=True))


def test_nobody_is_there(tmp_path: Path) -> None:
    (tmp_path / "face.png").write_bytes(png(noise(1)))
    hello = protocol.Hello(version=1, portrait="A" * 22)
    with pytest.raises(InputError, match="does not answer as a vivant server"):
        LiveClient("http://127.0.0.1:9").upload(tmp_path / "face.png")
    with pytest.raises(InputError, match="does not answer as a vivant server"):
        LiveClient("http://127.0.0.1:9").start(hello)

    async def start() -> None:
        async with RtcClient("http://127.0.0.1:9") as client:
            await client.start(hello)

    with pytest.raises(InputError, match="does not answer as a vivant server"):
        asyncio.run(start())

"""Hostile frames: they are refused by name, and take at most their own decoder with them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from vivant.errors import InputError
from vivant.marks.watermark import Marker
from vivant.media.packets import PacketCodec, PacketDecoder, PacketEncoder
from vivant.web import protocol, sandbox
from vivant.web.sandbox import FrameDecoder, frame_decoder, surroundings

from .conftest import noise
from .test_live import driving, offline, upload, viewer
from .test_uploads import bomb


def inside(codec: PacketCodec, talk: Callable[[FrameDecoder], Awaitable[None]]) -> None:
    async def run() -> None:
        async with frame_decoder(codec) as decoder:
            await talk(decoder)

    asyncio.run(run())


def packet(codec: PacketCodec, image: np.ndarray | None = None) -> bytes:
    return PacketEncoder(codec).encode(noise(1) if image is None else image).data


def huge_jpeg() -> bytes:
    """Four kilobytes that claim 65500 x 65500 pixels: start of frame, its height and width."""
    data = bytearray(packet("jpeg"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = (65_500).to_bytes(2, "big") * 2
    return bytes(data)


HOSTILE: dict[PacketCodec, list[bytes]] = {
    "jpeg": [huge_jpeg(), packet("jpeg")[:400], b"", packet("png"), packet("h264"), os.urandom(5000)],
    "png": [
        bomb(30_000, 30_000),
        bomb(1900, 1900),
        packet("png")[:300],
        packet("jpeg"),
        b"\x89PNG\r\n\x1a\n",
    ],
    "h264": [
        packet("h264", np.zeros((1600, 1600, 3), np.uint8)),
        os.urandom(5000),
        packet("jpeg"),
        b"",
        bytes(9),
    ],
}


@pytest.mark.parametrize("codec", list(HOSTILE))
def test_hostile_frames_are_refused_and_the_next_good_one_is_the_same_picture(codec: PacketCodec) -> None:
    random = np.random.default_rng(0)
    good = packet(codec)
    damaged = []
    for _ in range(60):
        data = bytearray(good)
        for position in random.integers(0, len(data), 6):
            data[position] = random.integers(256)
        damaged.append(bytes(data))

    async def talk(decoder: FrameDecoder) -> None:
        said = []
        for data in HOSTILE[codec] + damaged:
            try:
                await decoder.decode(data)
            except InputError as error:
                said.append(str(error))
        assert len(said) >= len(HOSTILE[codec]) - 2
        assert all("cannot be decoded" in sentence or "more than" in sentence for sentence in said)
        got = [await decoder.decode(good) for _ in range(4)][
            -1
        ]  # a damaged header may have asked for a delay
        expected = PacketDecoder(codec).decode(good)
        assert got is not None
        assert expected is not None
        assert np.array_equal(got, expected)

    inside(codec, talk)


def test_a_decoder_can_open_nothing_write_nothing_and_take_little_memory(tmp_path: Path) -> None:
    """What code that took over the process would find; as what the decoder is left with, not what it does."""
    kept = tmp_path / "kept"
    program = f"""
import os, socket, signal
from vivant.web.frames import MEMORY_BYTES, give_up
kept = open({str(kept)!r}, "wb", buffering=0)
give_up()
def refused(act):
    try:
        act()
    except (OSError, MemoryError):
        return True
    return False
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
acts = [
    lambda: open("/etc/hostname"), lambda: open({str(kept)!r} + "2", "wb"), lambda: kept.write(b"x"),
    lambda: (os.close(0), open("/etc/hostname")), socket.socket, os.pipe, lambda: bytearray(MEMORY_BYTES),
]
os._exit(sum(not refused(act) for act in acts))
"""
    ended = subprocess.run([sys.executable, "-c", program], env=surroundings(), check=False)
    assert ended.returncode == 0
    assert kept.read_bytes() == b""


def test_a_decoder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "FRAME_SECONDS", 0.3)

    async def talk(decoder: FrameDecoder) -> None:
        os.kill(decoder._child.pid, signal.SIGSTOP)
        with pytest.raises(InputError, match="too long"):
            await decoder.decode(packet("png"))
        assert decoder._child.wait(60) == -signal.SIGKILL

    inside("png", talk)


def decoders() -> list[int]:
    """Process numbers of this process's decoders."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"vivant.web.frames" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="process numbers are read as Linux tells them"
)
def test_a_decoder_that_dies_ends_its_own_session_only(client: TestClient, tiny: Path) -> None:
    name = upload(client, 1)
    with viewer(client) as first:
        first.start(name)
        (victim,) = decoders()
        with viewer(client) as second:
            ready = second.start(name)
            os.kill(victim, signal.SIGKILL)
            first.push(noise(1))
            told = first.said(protocol.Trouble)
            assert told.fatal
            assert "limits" in told.message
            for image in driving(3):
                second.push(image)
            got = [second.picture() for _ in driving(3)]
    marker = Marker(int(ready.session, 16))
    expected = [marker.mark(frame) for frame in offline(tiny, 1, 3)]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    assert decoders() == []

"""Child processes of the server: their surroundings, their time, and what they say.

What users send is opened there and never in the server: files by `vivant.web.decode`, frames of live sessions by
`vivant.web.frames`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Any, cast

import numpy as np

from vivant.errors import InputError
from vivant.media.packets import MAX_PACKET_PIXELS, PacketCodec
from vivant.web.decode import Limits
from vivant.web.frames import ANSWER, LENGTH, Kind

DECODE_SECONDS = 40.0
"""Wall time of one decoding; on a busy machine more than the process's own limit."""
START_SECONDS = 60.0
FRAME_SECONDS = 10.0
"""Wall time of one frame; the largest takes a thousandth of it on an idle machine."""
_PIPE_BYTES = 1_048_576
"""What Linux gives to anybody: a picture then takes few turns to come over."""
_MAX_SENTENCE_BYTES = 1000
_KEPT = (
    "PATH", "LD_LIBRARY_PATH", "HOME", "USERPROFILE", "LOCALAPPDATA", "LANG", "TMPDIR", "SYSTEMROOT",
    "XDG_CACHE_HOME", "VIVANT_HOME", "VIVANT_FACE_MODELS", "HF_HUB_OFFLINE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def surroundings() -> dict[str, str]:
    """Environment for a child: no secrets of the server, the same modules."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    paths = os.pathsep.join(path for path in sys.path if path)
    return kept | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


async def decoded(kind: str, source: Path, target: Path, limits: Limits) -> dict[str, Any]:
    """What `vivant.web.decode` finds. Raises InputError for everything that is wrong with the file."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vivant.web.decode",
        kind,
        str(source),
        str(target),
        limits.to_json(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=surroundings(),
    )
    try:
        out, _ = await asyncio.wait_for(child.communicate(), DECODE_SECONDS)
    except TimeoutError:
        raise InputError("the file takes too long to decode; save or export it again") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    lines = out.decode(errors="replace").splitlines()
    if not lines:
        raise InputError("the file cannot be decoded within this server's limits; save or export it again")
    found: dict[str, Any] = json.loads(lines[-1])
    if "error" in found:
        raise InputError(found["error"])
    return found


@asynccontextmanager
async def frame_decoder(codec: PacketCodec) -> AsyncIterator[FrameDecoder]:
    """A decoder for the frames of one session. Raises InputError where it cannot be started."""
    decoder = FrameDecoder(codec)
    try:
        await decoder.start()
        yield decoder
    finally:
        decoder.close()  # a few ms, and not awaited: whoever is cancelled may not get so far


class FrameDecoder:
    """Packets of one sender to pictures, in a process that dies alone. One packet at a time."""

    def __init__(self, codec: PacketCodec) -> None:
        self._talking = Lock()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "vivant.web.frames", codec],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=surroundings(),
        )
        # Unbuffered, so they are raw files.
        self._to, self._from = cast(FileIO, self._child.stdin), cast(FileIO, self._child.stdout)
        _widen(self._from)

    async def start(self) -> None:
        """Wait until it has given up what it does not need."""
        kind, _ = await self._within(START_SECONDS, None)
        assert kind is Kind.READY, "the first word of the child"

    async def decode(self, data: bytes) -> np.ndarray | None:
        """The picture, uint8 RGB (H, W, 3); None where H.264 wants more packets first.

        Raises InputError for what is none, and for what takes too much memory or time; then the process is gone.
        """
        kind, content = await self._within(FRAME_SECONDS, data)
        if kind is Kind.REFUSED:
            raise InputError(content.tobytes().decode(errors="replace"))
        return content if kind is Kind.PICTURE else None

    def close(self) -> None:
        """End the process, whatever it is doing. Safe to call twice."""
        self._child.kill()
        self._child.wait()
        with self._talking:  # a thread that still listens hears the end now
            self._to.close()
            self._from.close()

    async def _within(self, seconds: float, data: bytes | None) -> tuple[Kind, np.ndarray]:
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._exchange, data), seconds)
        except TimeoutError:  # an OSError, so it comes first
            self._child.kill()  # and the thread that waits for it comes back
            raise InputError("a frame takes too long to decode; send smaller ones") from None
        except (EOFError, OSError) as error:
            raise InputError("a frame cannot be decoded within this server's limits; send another") from error

    def _exchange(self, data: bytes | None) -> tuple[Kind, np.ndarray]:
        """Say a packet (None: nothing), hear the answer. Raises EOFError or OSError where the process has died."""
        with self._talking:
            if data is not None:
                self._write(LENGTH.pack(len(data)) + data)
            return self._heard()

    def _heard(self) -> tuple[Kind, np.ndarray]:
        kind, first, second = ANSWER.unpack(self._read(ANSWER.size).data)
        if kind == Kind.PICTURE and 0 < first * second <= MAX_PACKET_PIXELS:
            return Kind.PICTURE, self._read(first * second * 3).reshape(second, first, 3)
        if kind == Kind.REFUSED and first <= _MAX_SENTENCE_BYTES:
            return Kind.REFUSED, self._read(first)
        if kind in (Kind.READY, Kind.NONE):
            return Kind(kind), np.empty(0, np.uint8)
        raise EOFError("an answer that the child never gives: somebody else speaks for it")

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._to.write(rest) :]

    def _read(self, size: int) -> np.ndarray:
        whole = np.empty(size, np.uint8)
        rest = whole.data
        while rest:
            count = self._from.readinto(rest)
            if not count:
                raise EOFError("the child has died")
            rest = rest[count:]
        return whole


def _widen(pipe: FileIO) -> None:
    """Let a picture come over in few turns, where the system can do that (Linux)."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl
    except ImportError:
        return
    fcntl(pipe, F_SETPIPE_SZ, _PIPE_BYTES)

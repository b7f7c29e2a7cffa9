"""`vivant serve` as a process of its own: killed in the middle of a job, begun again, and ended in good order."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from time import sleep
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest
from PIL import Image

from vivant.errors import CheckpointError, InputError
from vivant.media.reader import read_clip
from vivant.media.writer import VideoWriter
from vivant.web import serve as serving
from vivant.web.client import LiveClient
from vivant.web.protocol import VERSION, Hello
from vivant.web.sandbox import surroundings
from vivant.web.settings import Serving

from .conftest import noise

NUM_FRAMES = 90
PATIENCE = 2400
"""Looks, a tenth of a second apart."""


@contextmanager
def server(tiny: Path, state: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address; killed at the end where it still runs."""
    command = [
        sys.executable,
        "-m",
        "vivant",
        "serve",
        "--port",
        "0",
        "--preset",
        str(tiny),
        "--state",
        str(state),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=surroundings(), text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            yield process, found[0].rstrip("/")
        finally:
            process.kill()


def asked(
    address: str, path: str, content: bytes | None = None, kind: str = "application/octet-stream"
) -> Any:
    with urlopen(Request(f"{address}/v1/{path}", content, {"content-type": kind}), timeout=240) as answer:
        return json.load(answer)


def test_kill_9_in_the_middle_of_a_job_and_then_an_end_in_good_order(tiny: Path, tmp_path: Path) -> None:
    state, clip, picture = tmp_path / "state", tmp_path / "clip.mp4", tmp_path / "picture.png"
    Image.fromarray(noise(1)).save(picture)
    with VideoWriter(clip, Fraction(25), 64, 64) as writer:
        for index in range(NUM_FRAMES):
            writer.write(noise(index % 7))

    with server(tiny, state) as (process, address):
        order = {
            "portrait": asked(address, "portraits", picture.read_bytes())["id"],
            "clip": asked(address, "clips", clip.read_bytes())["id"],
            "face": "none",
            "driving_face": "none",
        }
        name = asked(address, "jobs", json.dumps(order).encode(), "application/json")["id"]
        for _ in range(PATIENCE):
            now = asked(address, f"jobs/{name}")
            if now["state"] == "running" and now["done"]:
                break
            sleep(0.1)
        assert (now["state"], 0 < now["done"] < NUM_FRAMES) == ("running", True)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 1
        process.kill()
        assert not psutil.wait_procs(workers, timeout=60)[1], "a worker does not outlive its server"

    with server(tiny, state) as (process, address):
        for _ in range(PATIENCE):
            now = asked(address, f"jobs/{name}")
            if now["state"] not in ("queued", "running"):
                break
            sleep(0.1)
        assert (now["state"], now["done"], now["error"]) == ("done", NUM_FRAMES, None)
        assert len(list(read_clip(state / "jobs" / name / "result.mp4"))) == NUM_FRAMES
        assert list((state / "uploads").iterdir()), "kept, for this job and the next"
        with LiveClient(address) as client:
            hello = Hello(
                version=VERSION, portrait=client.upload(picture), mode="file", face="none", send="png"
            )
            client.start(hello)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(InputError, match="shutting down"):
                next(client.packets())
        assert process.wait(120) == 128 + signal.SIGTERM, "as shells say it, and no traceback"
    assert not list((state / "uploads").iterdir()), "nothing is left of what users sent"


def test_a_server_that_cannot_serve_says_so_before_its_address(tiny: Path, tmp_path: Path) -> None:
    """Beside another on the same folder, and with weights that are damaged."""
    told: list[str] = []
    given = Serving(port=0, state=tmp_path, preset=(str(tiny),))
    with serving._alone(given), pytest.raises(InputError, match="choose another --state"):
        serving.serve(given, told.append)
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny, damaged)
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        serving.serve(Serving(port=0, state=tmp_path, preset=(str(damaged),)), told.append)
    assert told == []

"""Shared by the server's tests: a tiny preset, an application on it, and pictures to send."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from vivant import checkpoint
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.personalive.config import tiny as tiny_personalive
from vivant.engines.personalive.engine import PersonaLive
from vivant.web import protocol
from vivant.web.app import build
from vivant.web.client import LiveClient
from vivant.web.settings import Serving

HOST = "http://127.0.0.1"

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the smallest networks, untrained."""
    return _untrained(tmp_path_factory.mktemp("checkpoints") / "tiny", 0)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one."""
    return _untrained(tmp_path_factory.mktemp("checkpoints") / "other", 1)


@pytest.fixture(scope="session")
def late(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that answers as late as personalive-mini: chunks of four frames and a delay of twelve, untrained too."""
    torch.manual_seed(0)
    small = tiny_personalive()
    config = replace(
        small, chunk_frames=4, timesteps=(0, 333, 666, 999), unet=replace(small.unet, max_frames=16)
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "late"
    checkpoint.save(folder, "personalive", config, PersonaLive.build_networks(config))
    return folder


def _untrained(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LivePortrait.tiny_configs()["compact"]
    networks = LivePortrait.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    checkpoint.save(folder, "liveportrait", config, networks)
    return folder


@pytest.fixture
def serving(tiny: Path, tmp_path: Path) -> Callable[..., Serving]:
    def make(**given: Any) -> Serving:
        return Serving(**{"preset": (str(tiny),), "state": tmp_path / "state"} | given)

    return make


@pytest.fixture
def client(serving: Callable[..., Serving]) -> Iterator[TestClient]:
    """A server without a token, started and ended."""
    app, _ = build(serving())
    with TestClient(app, base_url=HOST) as made:
        yield made


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The application on a free port of this machine, in a thread; its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=3))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(30)


def hello(client: LiveClient, folder: Path) -> protocol.Hello:
    """Of a file that drives an uploaded picture without a face, without loss both ways."""
    (folder / "face.png").write_bytes(png(noise(1)))
    return protocol.Hello(
        version=1,
        portrait=client.upload(folder / "face.png"),
        mode="file",
        face="none",
        driving_face=None,
        send="png",
        receive="png",
    )


def noise(seed: int, side: int = 64) -> np.ndarray:
    """A smooth picture, uint8 (side, side, 3)."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return np.ascontiguousarray((smooth[0] * 255).byte().permute(1, 2, 0).numpy())


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()

"""A local live run: a clip played as a camera, into a file and to a server on this machine."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.live.cast import cast
from vivant.live.settings import Cast
from vivant.media.broadcast import Broadcast
from vivant.media.camera import captured
from vivant.media.reader import read_clip
from vivant.media.writer import VideoWriter


def noise(seed: int, side: int = 64) -> np.ndarray:
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return np.ascontiguousarray((smooth[0] * 255).byte().permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def engine() -> Any:
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()["compact"]
    return LivePortrait(config, LivePortrait.build_networks(config))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    with VideoWriter(tmp_path / "clip.mp4", Fraction(10), 64, 64) as writer:
        for index in range(8):
            writer.write(noise(index))
    return tmp_path / "clip.mp4"


@pytest.fixture
def settings(clip: Path, tmp_path: Path) -> dict[str, Any]:
    Image.fromarray(noise(99)).save(tmp_path / "face.png")
    return {
        "source": tmp_path / "face.png",
        "driving": str(clip),
        "to": str(tmp_path / "out.mp4"),
        "face": "none",
        "driving_face": "none",
    }


def test_a_clip_plays_at_its_times_without_sleeping_here(clip: Path) -> None:
    now = [100.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    times = [seconds for _, seconds in captured(str(clip), lambda: now[0], sleep)]
    assert times == pytest.approx([100 + index / 10 for index in range(8)])
    assert now[0] == pytest.approx(100.7)


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no camera 97"):
        next(captured("97"))


def test_a_cast_becomes_a_film_with_the_times_of_capture(engine: Any, settings: dict[str, Any]) -> None:
    report = cast(Cast(**settings), engine, None, lambda: False)
    assert report.counts.shown + report.counts.replaced + report.counts.paced >= 7
    frames = list(read_clip(settings["to"]))
    assert len(frames) == report.counts.shown == report.latency.count > 0
    assert all(np.diff([float(frame.time) for frame in frames]) > 0)
    with pytest.raises(InputError, match="exists already"):
        cast(Cast(**settings), engine, None, lambda: False)


def test_what_stops_a_cast_leaves_no_half_film(engine: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gave no picture"):
        cast(Cast(**settings), engine, None, lambda: True)
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        cast(Cast(**{**settings, "driving": str(tmp_path / "nowhere.mp4")}), engine, None, lambda: False)
    with pytest.raises(InputError, match="neither an"):
        cast(Cast(**{**settings, "to": str(tmp_path / "out.avi")}), engine, None, lambda: False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.mp4", "face.png"]


def test_pictures_reach_a_streaming_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"rtmp://127.0.0.1:{probe.getsockname()[1]}/live/key"
    got: list[tuple[int, int]] = []

    def listen() -> None:
        options = {"listen": "1", "timeout": "60"}
        with av.open(address, options=options) as container, suppress(av.FFmpegError):  # the sender hangs up
            for frame in container.decode(video=0):
                got.append((frame.width, frame.height))

    server = threading.Thread(target=listen, daemon=True)
    server.start()
    for _ in range(200):  # until somebody listens
        try:
            sender = Broadcast(address, 64, 48, 25.0)
            break
        except InputError:
            threading.Event().wait(0.1)
    with sender:
        for index in range(10):
            sender.write(noise(index)[:48], index / 25)
        sender.write(noise(1, 80), 0.1)  # another size, and a time that does not grow
    server.join(60)
    assert got == [(64, 48)] * 11


def test_nobody_listens() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        Broadcast("rtmp://127.0.0.1:1/live/key", 64, 48, 25.0)

"""A local live run: a clip played as a camera, into a file and to a server on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

import vivant
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.engines.personalive.engine import PersonaLive
from vivant.errors import InputError
from vivant.live.cast import cast
from vivant.live.settings import Cast
from vivant.media.audio import read_audio
from vivant.media.broadcast import Broadcast
from vivant.media.camera import captured
from vivant.media.microphone import device, is_sound
from vivant.media.reader import read_clip
from vivant.media.window import Window
from vivant.media.writer import VideoWriter
from vivant.presets import load_voice


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


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("rate_hz", 0.0, "--fps is 1 to 240"),
        ("rate_hz", float("nan"), "--fps"),
        ("side_px", 5, "--side"),
        ("max_latency_ms", -1.0, "--max-latency"),
        ("seconds", float("nan"), "--seconds"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    settings: dict[str, Any], name: str, value: float, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        Cast(**{**settings, name: value})


def test_a_cast_becomes_a_film_with_the_times_of_capture(engine: Any, settings: dict[str, Any]) -> None:
    report = cast(Cast(**settings), engine, None, lambda: False)
    assert report.counts.shown + report.counts.replaced + report.counts.paced >= 7
    frames = list(read_clip(settings["to"]))
    assert len(frames) == report.counts.shown == report.latency.count > 0
    assert all(np.diff([float(frame.time) for frame in frames]) > 0)
    with pytest.raises(InputError, match="exists already"):
        cast(Cast(**settings), engine, None, lambda: False)


def test_a_preset_that_answers_late_shows_the_end_of_a_clip_too(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = PersonaLive.tiny_configs()["tiny"]
    late = PersonaLive(config, PersonaLive.build_networks(config))
    with pytest.raises(InputError, match="answers 200 ms after"):  # five frames
        cast(Cast(**settings, max_latency_ms=199), late, None, lambda: False)
    report = cast(Cast(**settings, max_latency_ms=9000), late, None, lambda: False)
    counts = report.counts
    assert counts.shown + counts.replaced + counts.paced == 8
    assert len(list(read_clip(settings["to"]))) == counts.shown


def test_what_stops_a_cast_leaves_no_half_film(engine: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gave no picture"):
        cast(Cast(**settings), engine, None, lambda: True)
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        cast(Cast(**{**settings, "driving": str(tmp_path / "nowhere.mp4")}), engine, None, lambda: False)
    with pytest.raises(InputError, match="neither an"):
        cast(Cast(**{**settings, "to": str(tmp_path / "out.avi")}), engine, None, lambda: False)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clip.mp4", "face.png"]


def test_pictures_and_their_sound_reach_a_streaming_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"rtmp://127.0.0.1:{probe.getsockname()[1]}/live/key"
    got: list[tuple[int, int]] = []
    loud: list[float] = []

    def listen() -> None:
        options = {"listen": "1", "timeout": "60"}
        with av.open(address, options=options) as container, suppress(av.FFmpegError):  # the sender hangs up
            for frame in container.decode(*container.streams):
                if isinstance(frame, av.VideoFrame):
                    got.append((frame.width, frame.height))
                elif np.abs(frame.to_ndarray()).max() > 0.2:
                    loud.append(frame.time)

    server = threading.Thread(target=listen, daemon=True)
    server.start()
    for _ in range(200):  # until somebody listens
        try:
            sender = Broadcast(address, (64, 48), 25.0, sample_rate_hz=16_000)
            break
        except InputError:
            threading.Event().wait(0.1)
    with sender:
        for index in range(10):
            sender.sound(np.full(640, 0.5 * (index == 5), np.float32))
            sender.write(noise(index)[:48], index / 25)
        sender.write(noise(1, 80), 0.1)  # another size, and a time that does not grow
    server.join(60)
    assert got == [(64, 48)] * 11
    assert loud
    assert abs(loud[0] - 5 / 25) < 0.03  # in step with the sixth picture, to a packet of AAC


def test_nobody_listens() -> None:
    with pytest.raises(InputError, match="cannot be written"):
        Broadcast("rtmp://127.0.0.1:1/live/key", (64, 48), 25.0)


@pytest.fixture(scope="module")
def speaking() -> dict[str, Any]:
    """An engine and what speaks for it."""
    return {
        "engine": vivant.load("liveportrait-mini", "cpu", "float32"),
        "voice": load_voice("liveportrait-mini"),
    }


def clicks(seconds: float) -> np.ndarray:
    """A click each second from 0.5 s on, float32 mono at 16 kHz."""
    samples = np.zeros(round(seconds * 16_000), np.float32)
    for start in range(8_000, len(samples), 16_000):
        samples[start : start + 160] = 0.9
    return samples


def soundfile(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def test_a_spoken_file_becomes_a_film_whose_sound_is_where_it_was(
    speaking: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    soundfile(tmp_path / "speech.wav", clicks(1.2))
    settings["driving"] = str(tmp_path / "speech.wav")
    assert is_sound(settings["driving"])
    report = cast(Cast(**settings), speaking["engine"], None, lambda: False, speaking["voice"])
    times = [float(frame.time) for frame in read_clip(settings["to"])]
    assert report.counts.offered == 30  # pictures that 1.2 s of sound have; what was left out was counted
    assert len(times) == report.counts.shown == 30 - report.counts.replaced
    assert all(abs(time * 25 - round(time * 25)) < 0.05 for time in times)  # each at its sound's time
    heard = np.concatenate([chunk.samples for chunk in read_audio(settings["to"], 16_000, 0.1)])
    assert np.abs(heard).argmax() == pytest.approx(8_080, abs=200)


def test_a_microphone_is_read_by_alsa(
    speaking: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    """ALSA's own file plugin stands for the hardware: everything above it is what a real microphone meets."""
    (tmp_path / "mic.raw").write_bytes((np.repeat(clicks(1), 3) * 32767).astype("<i2").tobytes())
    (tmp_path / "alsa.conf").write_text(
        'pcm.quiet { type null }\npcm.desk { type file slave.pcm "quiet" file "/dev/null" format "raw" '
        f'infile "{tmp_path}/mic.raw" }}\n'
    )
    code = (
        "import numpy as np, itertools; from vivant.media.microphone import heard\n"
        "pieces = [p for p, _ in itertools.islice(heard('mic:desk', 16000), 45)]\n"
        "print(len(np.concatenate(pieces)), np.abs(np.concatenate(pieces)).argmax())\n"
        "try: next(heard('mic', 16000))\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    surroundings = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "alsa.conf")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told, refused = done.stdout.splitlines()
    length, loudest = map(int, told.split())
    assert length >= 45 * 320
    assert loudest == pytest.approx(8_080, abs=200)
    assert refused.startswith("InputError there is no microphone that can be read")
    assert "-d mic:plughw:0" in refused


def test_microphones_of_other_systems_have_their_names() -> None:
    assert device(None, "darwin") == (":0", "avfoundation")
    assert device("Desk", "win32") == ("audio=Desk", "dshow")
    with pytest.raises(InputError, match="say which microphone"):
        device(None, "win32")


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A display in memory."""
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no Xvfb")
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    name = f":{server.stdout.readline().strip()}"
    monkeypatch.setenv("DISPLAY", name)
    yield name
    server.terminate()
    server.wait(20)
    server.stdout.close()


def test_a_window_shows_pictures_until_it_is_closed(
    display: str, engine: Any, settings: dict[str, Any]
) -> None:
    picture = np.zeros((100, 120, 3), np.uint8)
    picture[:50] = (250, 10, 10)
    with Window("a test", 120, 100) as window:
        window.write(noise(1, 100), 0.0)
        window.write(picture, 0.1)
        window.attend()
        with av.open(display, format="x11grab", options={"video_size": "120x100"}) as screen:
            seen = next(screen.decode(video=0)).to_ndarray(format="rgb24")
        assert np.array_equal(seen, picture)
        assert window.is_open
        window._root.focus_force()
        window.attend()
        window._root.event_generate("<Escape>")
        window.attend()
        assert not window.is_open
    report = cast(Cast(**{**settings, "to": "window"}), engine, None, lambda: False)
    assert report.counts.shown > 0


def test_without_a_display_there_is_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match="no window can be opened here"):
        Window("a test", 64, 64)

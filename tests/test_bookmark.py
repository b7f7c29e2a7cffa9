"""An animation that is bookmarked, forgotten and gone on with draws what an undisturbed one draws, bit for bit."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from stand_ins import pictures

import vivant
from vivant.animation import AnimationReport
from vivant.bookmark import Bookmark
from vivant.engine import Engine
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.errors import InputError
from vivant.face.models import face_models_available
from vivant.media.writer import VideoWriter
from vivant.motion_capture import record_motion
from vivant.presets import DEFAULT_PRESET, load_voice
from vivant.session import Session
from vivant.sources import SourceVideo

RATE = Fraction(5)
"""Slow, so that the two seconds in which a neutral face is looked for are ten frames."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()["compact"]
    networks = LivePortrait.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return LivePortrait(config, networks)


@pytest.fixture(scope="module")
def portrait(engine: Engine) -> Any:
    return engine.prepare(np.ascontiguousarray(astronaut()[:400, 40:440]))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that drifts, is away for three frames, then is seen in another shot, and drifts on."""
    if not face_models_available():
        pytest.skip("the face models are not on this machine (vivant doctor --fix)")
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    face = astronaut()[:400, 40:440]
    with VideoWriter(path, RATE, 240, 240, preset="ultrafast") as writer:
        for index in range(24):
            image = face[index : index + 240, 70 + 2 * index : 310 + 2 * index]
            if 13 <= index < 16:
                image = np.zeros_like(image)
            elif index >= 16:
                image = 255 - (255 - image[:, ::-1].astype(int)) // 2
            writer.write(np.ascontiguousarray(image, np.uint8))
    return path


def run_with_bookmarks(
    engine: Engine, portrait: Any, driving: Any, settings: dict[str, Any]
) -> tuple[list[np.ndarray], dict[int, Bookmark], AnimationReport]:
    """All frames, the bookmarks that could be set by the number of frames before them, and the report."""
    frames, marks = [], {}
    with vivant.animate(engine, portrait, driving, **settings) as run:
        for frame in run:
            frames.append(frame)
            if (mark := run.bookmark()) is not None:
                marks[len(frames)] = mark
        return frames, marks, run.report


def check(
    engine: Engine, portrait: Any, driving: Any, folder: Path, stops: list[int], **settings: Any
) -> list[int]:
    """Going on from each stop, by way of a file, gives the frames that are left, and the same report.

    Returns after how many frames one can stop.
    """
    frames, marks, report = run_with_bookmarks(engine, portrait, driving, settings)
    assert not np.array_equal(frames[0], frames[-1])
    for stop in stops:
        marks[stop].save(folder / "mark.safetensors")
        mark = Bookmark.load(folder / "mark.safetensors")
        with vivant.animate(engine, portrait, driving, **settings, resume=mark) as again:
            rest = list(again)
        assert len(rest) == len(frames) - stop, f"after {stop} frames"
        assert all(np.array_equal(a, b) for a, b in zip(rest, frames[stop:], strict=True)), f"after {stop}"
        assert again.report.num_frames == report.num_frames
        assert again.report.without_face == report.without_face
        assert again.report.engine.frames_out == report.engine.frames_out
    return list(marks)


@pytest.mark.parametrize("on_missing", ["hold", "source"])
def test_a_clip(engine: Engine, portrait: Any, clip: Path, tmp_path: Path, on_missing: Any) -> None:
    """While the face is followed, while it is away, just before and after the cut, and at the end."""
    stops = [10, 12, 14, 16, 17, 24]
    places = check(engine, portrait, clip, tmp_path, stops, frame_rate=RATE, on_missing=on_missing)
    assert places == list(range(10, 25)), "not while a neutral face is looked for"


def test_saved_motion(engine: Engine, portrait: Any, clip: Path, tmp_path: Path) -> None:
    record_motion(engine, clip, tmp_path / "m.safetensors", frame_rate=RATE)
    assert len(check(engine, portrait, tmp_path / "m.safetensors", tmp_path, [1, 14, 20])) == 24


def test_speech(tmp_path: Path) -> None:
    """Idle movement is random, and goes on with the same numbers."""
    time = np.arange(9600) / 16000
    sound = (np.sin(time * 900) * np.sin(time * 20) * 20000).astype("<i2")
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(sound.tobytes())
    engine = vivant.load(DEFAULT_PRESET, "cpu", "float32")
    portrait = engine.prepare(np.ascontiguousarray(astronaut()[100:228, 160:288]), face=None)
    voice = load_voice(DEFAULT_PRESET)
    check(engine, portrait, tmp_path / "speech.wav", tmp_path, [5, 9], voice=voice, seed=3)


def test_frames_one_by_one(engine: Engine, portrait: Any) -> None:
    """Whoever feeds frames feeds them all again; those that were taken are passed over."""
    frames = [np.full((64, 64, 3), value, np.uint8) for value in (10, 90, 200, 250)]
    with vivant.animate(engine, portrait, frames, driving_face=None) as run:
        expected = list(run)
    with vivant.animate(engine, portrait, frames, driving_face=None) as run:
        next(run)
        mark = run.bookmark()
    with vivant.animate(engine, portrait, frames, driving_face=None, resume=mark) as again:
        rest = list(again)
    assert all(np.array_equal(a, b) for a, b in zip(rest, expected[1:], strict=True))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads that drift through nine pictures; a wall is before them for two."""
    folder = tmp_path_factory.mktemp("source")
    left = astronaut()[:400, 40:440]
    right = np.asarray(255 - (255 - left[:, ::-1].astype(int)) * 0.8, np.uint8)
    couple = np.concatenate([left[:, :230], right[:, 165:]], axis=1)
    for index in range(9):
        image = couple[:320, 2 * index : 445 + 2 * index]
        Image.fromarray(np.ascontiguousarray(image if index not in (3, 4) else image // 4)).save(
            folder / f"{index}.png"
        )
    return folder


@pytest.mark.parametrize(
    ("length", "on_missing"), [("source", "hold"), ("driving", "hold"), ("source", "source")]
)
def test_people_of_a_video(
    engine: Engine, source: Path, tmp_path: Path, length: Any, on_missing: Any
) -> None:
    """One driver ends before the video and one after it; the people are away for a while; each way to end."""
    short = tmp_path / "short"
    short.mkdir()
    for index in range(4):
        (short / f"{index}.png").write_bytes((source / f"{index + 5}.png").read_bytes())
    record_motion(engine, short, tmp_path / "m.safetensors")
    people = SourceVideo(engine, source, face="0,1")
    drivers = {0: tmp_path / "m.safetensors", 1: pictures(11, seed=1)}
    stops = [2, 4, 9] if length == "source" else [5, 10]
    how = {"length": length, "frame_rate": 25, "driving_face": None, "on_missing": on_missing}
    places = check(engine, people, drivers, tmp_path, stops, **how)
    assert places == list(range(1, 10 if length == "source" else 12)), "after every frame, whoever has ended"


def test_a_video_driven_by_a_picture(engine: Engine, source: Path, tmp_path: Path) -> None:
    Image.fromarray(np.ascontiguousarray(astronaut()[20:260, 110:350])).save(tmp_path / "still.png")
    people = SourceVideo(engine, source)
    check(engine, people, tmp_path / "still.png", tmp_path, [1, 5], paste_back=False)


def test_several_faces_of_a_picture(engine: Engine, source: Path, tmp_path: Path) -> None:
    """One driver ends early; its face is held."""
    people = engine.prepare_faces(source / "0.png", face="0,1")
    drivers = {0: pictures(5, seed=1), 1: pictures(3, seed=2)}
    assert check(engine, people, drivers, tmp_path, [1, 3, 4], driving_face=None) == [1, 2, 3, 4, 5]


def test_a_session_that_fell_back_to_float32_stays_there(engine: Engine, portrait: Any) -> None:
    session = Session(engine, portrait)
    session.push(np.full((64, 64, 3), 90, np.uint8))
    half = LivePortrait(engine.config, engine.networks, torch.bfloat16)
    assert Session.restore(session.bookmark(), half, portrait).engine.dtype == torch.float32


def test_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("something else")
    with pytest.raises(InputError, match="x is not a saved session"):
        Bookmark.load(tmp_path / "x")

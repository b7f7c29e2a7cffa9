"""Shared by the command-line tests: a tiny checkpoint, a real face, short driving clips, and a way to run a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut

from vivant import checkpoint
from vivant.cli import main
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.face.models import face_models_available

from .lines import DRIVING_RATE, NUM_DRIVING, Outcome, Run, shifted, tone, write_driving


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `vivant ARGUMENTS` in this process."""

    def line(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return line


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the smallest networks, untrained."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()["compact"]
    checkpoint.save(folder, "liveportrait", config, LivePortrait.build_networks(config))
    return folder


@pytest.fixture(scope="session")
def face() -> np.ndarray:
    """uint8 RGB (400, 400, 3): one smiling face, about 120 pixels wide."""
    if not face_models_available():
        pytest.skip("the face models are not on this machine (vivant doctor --fix)")
    return np.ascontiguousarray(astronaut()[:400, 40:440])


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> Path:
    """A folder with face.png, drive.mp4 (five frames at 25 per second) and one.mp4 (one frame)."""
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(face).save(folder / "face.png")
    write_driving(folder / "drive.mp4", shifted(face, 5))
    write_driving(folder / "one.mp4", shifted(face, 1))
    return folder


@pytest.fixture(scope="session")
def driving(tmp_path_factory: pytest.TempPathFactory, face: np.ndarray) -> Path:
    """With sound: a face that drifts, is away for three frames, then is seen in another shot, and drifts on."""
    folder = tmp_path_factory.mktemp("driving")
    images = [face[i : i + 240, 70 + 2 * i : 310 + 2 * i] for i in range(NUM_DRIVING)]
    images[13:16] = [np.zeros_like(images[0])] * 3
    images[16:] = [(255 - (255 - image[:, ::-1].astype(int)) // 2).astype(np.uint8) for image in images[16:]]
    sound = tone(folder / "tone.wav", float(NUM_DRIVING / DRIVING_RATE))
    return write_driving(folder / "d.mp4", [np.ascontiguousarray(i) for i in images], DRIVING_RATE, sound)

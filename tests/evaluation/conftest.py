"""Shared by the evaluation tests: tiny engines, and sessions whose people have every named expression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("numba", reason="held-out people need the extra `studio`")

from training.synthetic import EXPRESSION_NAMES, make_session

from vivant.engines.liveportrait.engine import LivePortrait
from vivant.face.models import face_models_available
from vivant.studio.dataset import Session, session_path, write_session

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    *EXPRESSION_NAMES[:3],
    "mouthSmile_L",
    "mouthSmile_R",
    "browOuterUp_L",
    "browOuterUp_R",
    *EXPRESSION_NAMES[7:],
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@pytest.fixture
def astronaut() -> Path:
    return ROOT / "examples" / "astronaut.png"


@pytest.fixture
def driving() -> Path:
    return ROOT / "examples" / "driving.mp4"


@pytest.fixture
def face_models() -> None:
    if not face_models_available():
        pytest.skip("the face models are not on this machine (vivant doctor --fix)")


def tiny_engine(name: str) -> LivePortrait:
    """Random weights that make every input matter."""
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()[name]
    networks = LivePortrait.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return LivePortrait(config, networks)


@pytest.fixture(scope="session")
def compact() -> LivePortrait:
    return tiny_engine("compact")


def make_person(identity: int, num_frames: int = 4) -> Session:
    """The training tests' person, with a skin that moves along, head angles, and every expression's name."""
    session = make_session(identity, num_frames=num_frames)
    rng = np.random.default_rng(identity)
    size = session.info.size
    skin = cv2.resize(rng.integers(40, 220, (9, 9, 3)).astype(np.uint8), (size, size))
    rgba = session.rgba.copy()
    for frame, (_, x, y) in zip(rgba, session.projection, strict=True):
        moved = cv2.warpAffine(skin, np.float32([[1, 0, x - size / 2], [0, 1, y - size / 2]]), (size, size))
        frame[..., :3] = moved * (frame[..., 3:] > 0)
    angles = rng.normal(size=(num_frames, 3)).astype(np.float32)
    info = replace(session.info, expression_names=NAMES)
    return replace(session, info=info, rgba=rgba, angles=angles)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sessions of two held-out people and of one who is not."""
    folder = tmp_path_factory.mktemp("sessions")
    for identity in (0, 1, 12):
        write_session(session_path(folder, identity, 0), make_person(identity))
    return folder

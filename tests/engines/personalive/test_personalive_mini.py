"""The shipped personalive-mini: a photograph leans and opens its mouth as the driver does, and stays who she is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from leaning import moved, roll_degrees
from torch import Tensor

import vivant
from vivant.animation import animate
from vivant.engines.personalive.config import Options
from vivant.evaluation import metrics
from vivant.face.framing import default_detector, default_mesh
from vivant.face.points import to_68
from vivant.media.image import read_image

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
NUM_FRAMES = 8


@pytest.fixture(scope="module")
def engine() -> Any:
    return vivant.load("personalive-mini", device="cpu")


@pytest.fixture(scope="module")
def portrait(engine: Any) -> Any:
    return engine.prepare(ASTRONAUT)


def played(engine: Any, portrait: Any, driving: Tensor, decoder: Literal["full", "tiny"] = "full") -> Tensor:
    state = engine.start(portrait, Options(placement="paper", decoder=decoder), seed=1)
    chunks = driving.split(engine.stream.chunk_frames)
    drawn = [engine.render(state, engine.encode_motion(state, chunk)) for chunk in chunks]
    return torch.cat([*drawn, engine.flush(state)])


def test_a_still_driver_leaves_the_person_as_she_is(engine: Any, portrait: Any) -> None:
    own = portrait.picture[0]
    frames = played(engine, portrait, own.expand(NUM_FRAMES, -1, -1, -1))
    assert len(frames) == NUM_FRAMES
    assert float(metrics.psnr(frames, own.expand_as(frames)).mean()) > 24


def test_the_tiny_decoder_leaves_pictures_unmended(engine: Any, portrait: Any) -> None:
    driving = portrait.picture[0].expand(NUM_FRAMES, -1, -1, -1)
    full, tiny = (played(engine, portrait, driving, decoder) for decoder in ("full", "tiny"))
    assert 24 < float(metrics.psnr(tiny, full).mean()) < 45, "other pictures of the same latents"


def test_a_head_that_leans_is_followed(engine: Any, portrait: Any) -> None:
    own = portrait.picture[0]
    driving = torch.stack([own] * 4 + [moved(own, degrees=5.0)] * 4)
    frames = played(engine, portrait, driving)
    assert 2.5 < roll_degrees(frames[-1]) - roll_degrees(frames[0]) < 7.5


def test_a_driver_in_the_same_picture_moves_nobody(engine: Any, portrait: Any) -> None:
    """Drivers are framed as portraits are, so their own size and place mean the same."""
    picture = read_image(ASTRONAUT)
    *_, frame = animate(engine, portrait, [picture] * NUM_FRAMES, options=Options(placement="paper"))
    before, after = (points_in(image) for image in (picture, frame))
    eyes = np.linalg.norm(before[36] - before[45])
    assert np.linalg.norm((after - before).mean(0)) < 0.04 * eyes, "differently framed: 0.18"
    assert np.ptp(after[:, 1]) == pytest.approx(np.ptp(before[:, 1]), rel=0.03)


def points_in(image: np.ndarray) -> np.ndarray:
    """(68, 2) pixels."""
    landmarks = default_mesh().landmarks(image, default_detector().detect(image)[0])
    assert landmarks is not None
    return to_68(landmarks)[:68]

"""The shipped personalive-mini: a photograph leans and opens its mouth as the driver does, and stays who she is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import vivant
from vivant.engines.personalive.config import Options
from vivant.evaluation import metrics
from vivant.face.framing import default_detector, default_mesh

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
NUM_FRAMES = 8


@pytest.fixture(scope="module")
def engine() -> Any:
    return vivant.load("personalive-mini", device="cpu")


@pytest.fixture(scope="module")
def portrait(engine: Any) -> Any:
    return engine.prepare(ASTRONAUT)


def played(engine: Any, portrait: Any, driving: Tensor) -> Tensor:
    state = engine.start(portrait, Options(placement="paper"), seed=1)
    chunks = driving.split(engine.stream.chunk_frames)
    drawn = [engine.render(state, engine.encode_motion(state, chunk)) for chunk in chunks]
    return torch.cat([*drawn, engine.flush(state)])


def turned(picture: Tensor, degrees: float) -> Tensor:
    """(3, n, n) rolled about its middle."""
    side = picture.shape[1]
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), degrees, 1)
    pixels = picture.permute(1, 2, 0).numpy()
    rolled = cv2.warpAffine(
        pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(rolled).permute(2, 0, 1).clamp(0, 1)


def roll_degrees(picture: Tensor) -> float:
    """Of the eyes, by the face mesh; counted as `turned` counts."""
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    large = cv2.resize(np.ascontiguousarray(pixels), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    landmarks = default_mesh().landmarks(large, default_detector().detect(large, tiles=False)[0])
    assert landmarks is not None
    across = landmarks.xy[263] - landmarks.xy[33]
    return float(-np.degrees(np.arctan2(across[1], across[0])))


def test_a_still_driver_leaves_the_person_as_she_is(engine: Any, portrait: Any) -> None:
    own = portrait.picture[0]
    frames = played(engine, portrait, own.expand(NUM_FRAMES, -1, -1, -1))
    assert len(frames) == NUM_FRAMES
    assert float(metrics.psnr(frames, own.expand_as(frames)).mean()) > 24


def test_a_head_that_leans_is_followed(engine: Any, portrait: Any) -> None:
    own = portrait.picture[0]
    driving = torch.stack([own] * 4 + [turned(own, 5.0)] * 4)
    frames = played(engine, portrait, driving)
    assert 2.5 < roll_degrees(frames[-1]) - roll_degrees(frames[0]) < 7.5

"""The shipped flashportrait-mini: a photograph turns and opens its mouth as the driver does, and keeps being itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from leaning import moved, roll_degrees
from torch import Tensor

import vivant
from vivant.engines.flashportrait.config import Options
from vivant.evaluation import metrics

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
NUM_FRAMES = 9


@pytest.fixture(scope="module")
def engine() -> Any:
    return vivant.load("flashportrait-mini", device="cpu")


@pytest.fixture(scope="module")
def portrait(engine: Any) -> Any:
    return engine.prepare(ASTRONAUT)


def played(engine: Any, portrait: Any, driving: Tensor, options: Options | None = None) -> Tensor:
    state = engine.start(portrait, options, seed=1)
    drawn = [engine.render(state, engine.encode_motion(state, frame[None])) for frame in driving]
    return torch.cat([*drawn, engine.flush(state)])[: len(driving)]


def test_a_still_driver_leaves_the_person_as_she_is(engine: Any, portrait: Any) -> None:
    own = portrait.reference
    frames = played(engine, portrait, own.expand(NUM_FRAMES, -1, -1, -1))
    assert float(metrics.psnr(frames, own.expand_as(frames)).mean()) > 24


def test_a_head_that_leans_is_followed(engine: Any, portrait: Any) -> None:
    own = portrait.reference
    driving = torch.stack([own] + [moved(own, degrees=5.0)] * (NUM_FRAMES - 1))
    frames = played(engine, portrait, driving)
    start, end = roll_degrees(own), roll_degrees(frames[-1])
    assert 2.5 < end - start < 7.5
    computed = played(engine, portrait, driving, Options(num_steps=20))
    predicted = played(engine, portrait, driving, Options(num_steps=20, prediction="newton"))
    assert float(metrics.psnr(predicted, computed).mean()) > 26

"""A family that hears, live: blocks are drawn ahead, and what comes out is what the same sound gives at leisure."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import tiny_engine

from vivant.engines.refvae.engine import RefVae
from vivant.errors import InputError
from vivant.live.speaker import Speaker, Spoken
from vivant.live.stream import LiveStream
from vivant.session import Session

BLOCK, FIRST = 16, 13
SOUND = 640


@pytest.fixture(scope="module")
def engine() -> RefVae:
    torch.manual_seed(0)
    config = RefVae.tiny_configs()["tiny"]
    networks = RefVae.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return RefVae(config, networks)


@pytest.fixture(scope="module")
def portrait(engine: RefVae) -> Any:
    return engine.prepare(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), face=None)


@pytest.fixture
def speaker(engine: RefVae, portrait: Any) -> Iterator[Speaker]:
    made = Speaker(engine, portrait, None, seed=5, watermark=None)
    yield made
    made.close()


def speech(num_frames: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, num_frames * SOUND).astype(np.float32)


def spoken_by(speaker: Speaker, num: int, **how: Any) -> list[Spoken]:
    """So many, however long that takes."""
    got: list[Spoken] = []
    for _ in range(100_000):
        if len(got) == num:
            return got
        wait_for_drawing(speaker)
        step = speaker.step(**how)
        got += [] if step is None else [step]
    raise AssertionError("no end")


def wait_for_drawing(speaker: Speaker) -> None:
    for block in speaker._ears._blocks:  # type: ignore[attr-defined]
        if not isinstance(block, int):
            block.result()


def test_pictures_are_those_that_the_same_sound_gives_a_session(
    engine: RefVae, portrait: Any, speaker: Speaker
) -> None:
    given = speech(40)
    speaker.say(given)
    spoken = spoken_by(speaker, 45)
    heard = np.concatenate([step.samples for step in spoken])
    assert np.array_equal(heard[: len(given)], given)
    assert not heard[len(given) :].any()
    assert [step.speaking for step in spoken] == [True] * 40 + [False] * 5
    with Session(engine, portrait, None, 5) as session:
        wanted = session.push(np.concatenate([given, np.zeros(24 * SOUND, np.float32)]))
    for step, frame in zip(spoken, wanted, strict=False):
        assert step.image is not None
        assert np.array_equal(step.image, (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def test_nobody_waits_while_a_block_is_drawn(
    engine: RefVae, speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is too slow leaves blocks out, whose sound is heard all the same, at a delay that stays."""
    given, free = speech(7 * BLOCK), threading.Event()
    render = engine.render
    monkeypatch.setattr(engine, "render", lambda *given: free.wait(60) and render(*given))
    speaker.say(given)
    assert [speaker.step() for _ in range(4 * BLOCK)] == [None] * 4 * BLOCK
    blocks = speaker._ears._blocks  # type: ignore[attr-defined]
    assert [block for block in blocks if isinstance(block, int)] == [BLOCK] * 2
    free.set()
    spoken = spoken_by(speaker, 6 * BLOCK)
    assert np.array_equal(np.concatenate([step.samples for step in spoken]), given[: 6 * BLOCK * SOUND])
    drawn = [step.image is not None for step in spoken]
    assert drawn == [True] * (FIRST + BLOCK) + [False] * 2 * BLOCK + [True] * (2 * BLOCK + 3)


def test_barge_in_silences_what_is_not_drawn(engine: RefVae, portrait: Any, speaker: Speaker) -> None:
    speaker.say(speech(40))
    for _ in range(BLOCK + 5):  # a block is drawn, five frames of the next were heard
        wait_for_drawing(speaker)
        speaker.step()
    assert speaker.interrupt() == pytest.approx((40 - 5) * SOUND / 16_000)
    after = spoken_by(speaker, 20)
    assert not any(step.speaking or step.samples.any() for step in after)
    heard = np.concatenate([speech(40)[: BLOCK * SOUND], np.zeros(2 * BLOCK * SOUND, np.float32)])
    with Session(engine, portrait, None, 5) as session:
        frame = session.push(heard)[24]
    image = after[19].image
    assert image is not None
    assert np.array_equal(image, (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def test_pictures_that_nobody_wants_are_not_made(speaker: Speaker) -> None:
    assert all(step.image is None for step in spoken_by(speaker, 20, draw=False))


def test_a_failure_while_drawing_ahead_reaches_whoever_steps(
    engine: RefVae, speaker: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise InputError("no more memory")

    monkeypatch.setattr(engine, "render", fail)
    for _ in range(BLOCK - 1):
        assert speaker.step() is None
    with pytest.raises(InputError, match="no more memory"):
        spoken_by(speaker, 1)
    speaker.close()
    speaker.close()


def test_what_does_not_fit_is_refused(engine: RefVae, portrait: Any) -> None:
    seeing = tiny_engine()
    with pytest.raises(InputError, match="a voice is needed"):
        Speaker(seeing, seeing.prepare(np.zeros((64, 64, 3), np.uint8), face=None), None)
    with pytest.raises(InputError, match="driven by sound"):
        LiveStream(engine, portrait)

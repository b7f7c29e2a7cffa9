"""An agent's face: idle between utterances, sound in step with pictures, and barge-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vivant
from vivant.errors import InputError
from vivant.live.speaker import MAX_QUEUED_SECONDS, Speaker
from vivant.presets import load_voice


@pytest.fixture(scope="module")
def engine() -> Any:
    return vivant.load("liveportrait-mini", "cpu", "float32")


@pytest.fixture(scope="module")
def voice() -> Any:
    return load_voice("liveportrait-mini")


@pytest.fixture
def speaker(engine: Any, voice: Any) -> Speaker:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Speaker(engine, engine.prepare(picture, face=None), voice)


def tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * 16_000)) * 0.2)).astype(np.float32)


def test_silence_gives_moving_pictures_and_silent_sound(speaker: Speaker) -> None:
    steps = [speaker.step() for _ in range(24)]
    spoken = [step for step in steps if step is not None]
    assert len(spoken) == 24 - 4  # the look-ahead of the voice
    assert not any(step.speaking or step.samples.any() for step in spoken)
    assert spoken[0].image is not None
    assert not np.array_equal(spoken[0].image, spoken[-1].image)
    unseen = speaker.step(draw=False)
    assert unseen is not None
    assert unseen.image is None


def test_sound_comes_back_with_its_pictures_whole_and_in_order(speaker: Speaker) -> None:
    given = tone(0.3)
    for part in np.split(given, [100, 2000, 2001]):
        speaker.say(part)
    assert speaker.queued_seconds == pytest.approx(0.3)
    spoken = [step for step in (speaker.step() for _ in range(16)) if step is not None]
    heard = np.concatenate([step.samples for step in spoken])
    assert np.array_equal(heard[: len(given)], given)
    assert not heard[len(given) :].any()
    assert [step.speaking for step in spoken] == [True] * 8 + [False] * 4


def test_barge_in_silences_the_next_picture(speaker: Speaker) -> None:
    speaker.say(tone(2.0))
    for _ in range(10):
        speaker.step()
    assert speaker.interrupt() == pytest.approx(2.0 - 6 * 0.04)
    after = speaker.step()
    assert after is not None
    assert not after.speaking
    assert not after.samples.any()
    speaker.say(tone(0.04))
    assert [speaker.step().speaking for _ in range(5)] == [False] * 4 + [True]  # type: ignore[union-attr]


def test_more_than_can_be_spoken_is_refused(speaker: Speaker) -> None:
    with pytest.raises(InputError, match="would wait"):
        speaker.say(tone(MAX_QUEUED_SECONDS + 1))
    with pytest.raises(InputError, match="not numbers"):
        speaker.say(np.full(10, np.nan, np.float32))
    assert speaker.queued_seconds == 0

"""The shipped refvae-mini: a picture and a sound file become somebody who speaks, and a cut run goes on bit for bit."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vivant
from vivant.errors import InputError

ASTRONAUT = Path(__file__).parents[3] / "examples" / "astronaut.png"
RATE_HZ = 16_000
SECONDS = 2.0


@pytest.fixture(scope="module")
def engine() -> Any:
    return vivant.load("refvae-mini", device="cpu")


def sound_file(path: Path, loudness: float) -> Path:
    """Syllables like "a", four a second: pulses of a voice through two formants."""
    time = np.arange(int(SECONDS * RATE_HZ)) / RATE_HZ
    voice = np.zeros_like(time)
    for harmonic in range(1, 40):
        pitch = 120.0 * harmonic
        heard = sum(np.exp(-(((pitch - formant) / 160) ** 2)) for formant in (730, 1090))
        voice += heard * np.sin(2 * np.pi * pitch * time)
    voice *= loudness * (np.sin(2 * np.pi * 4 * time) > 0) / np.abs(voice).max()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((voice * 32767).astype("<i2").tobytes())
    return path


def drawn(engine: Any, driving: Path, **arguments: Any) -> np.ndarray:
    portrait = engine.prepare(ASTRONAUT)
    with vivant.animate(engine, portrait, driving, paste_back=False, **arguments) as animation:
        return np.stack(list(animation))


def test_sound_moves_the_mouth_and_nothing_else_does(engine: Any, tmp_path: Path) -> None:
    silence = drawn(engine, sound_file(tmp_path / "silence.wav", 0.0))
    speech = drawn(engine, sound_file(tmp_path / "speech.wav", 0.5))
    assert len(silence) == len(speech) == int(25 * SECONDS)
    # The noise is the same, so all that differs is the sound's.
    change = np.abs(speech.astype(float) - silence.astype(float)).mean((0, 3))
    mouth, above = change[76:112, 40:88].mean(), change[:40].mean()
    assert mouth > 4
    assert mouth > 2.5 * above


def test_a_cut_run_goes_on_to_the_bit(engine: Any, tmp_path: Path) -> None:
    driving = sound_file(tmp_path / "speech.wav", 0.5)
    whole = drawn(engine, driving, seed=3)
    portrait = engine.prepare(ASTRONAUT)
    with vivant.animate(engine, portrait, driving, paste_back=False, seed=3) as animation:
        first, mark = [], None
        for frame in animation:
            first.append(frame)
            mark = animation.bookmark() if len(first) >= 13 else None
            if mark is not None:
                break
    assert mark is not None
    assert len(first) < len(whole)
    rest = drawn(engine, driving, seed=3, resume=mark)
    assert np.array_equal(np.concatenate([first, rest]), whole)


def test_another_rate_is_refused(engine: Any, tmp_path: Path) -> None:
    driving = sound_file(tmp_path / "speech.wav", 0.5)
    with pytest.raises(InputError, match="25 frames per second"):
        drawn(engine, driving, frame_rate=30)

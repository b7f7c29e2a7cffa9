"""What the command-line tests make and look at."""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vivant.media.writer import VideoWriter


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]

DRIVING_RATE, NUM_DRIVING = Fraction(5), 24
"""Of the fixture `driving`; slow, so that the two seconds in which a neutral face is looked for are ten frames."""


def shifted(face: np.ndarray, count: int) -> list[np.ndarray]:
    """The face drifting through a 240-pixel frame."""
    return [face[i : i + 240, 70 + 2 * i : 310 + 2 * i] for i in range(count)]


def write_driving(
    path: Path, images: list[np.ndarray], rate: Fraction = Fraction(25), audio_from: Path | None = None
) -> Path:
    height, width = images[0].shape[:2]
    with VideoWriter(path, rate, width, height, preset="ultrafast", audio_from=audio_from) as writer:
        for image in images:
            writer.write(np.ascontiguousarray(image))
    return path


def left_in(folder: Path) -> list[str]:
    """All names below a folder, hidden ones too."""
    return sorted(
        str(Path(root, name).relative_to(folder)) for root, _, names in os.walk(folder) for name in names
    )


def tone(path: Path, seconds: float) -> Path:
    """Something between a note and speech."""
    seconds_in = np.arange(round(16000 * seconds)) / 16000
    samples = (np.sin(seconds_in * 2800) * np.sin(seconds_in * 13) * 15000).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())
    return path

"""Speech for clips: text to sound and timed phonemes, phonemes to visemes, visemes to expression curves.

Two sources of voices, both optional system packages: espeak-ng (espeak.py) and flite (its program prints phonemes).
Weights are 0..1. T frames, E expression shapes.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
from vivant.studio import espeak
from vivant.studio.motion import columns_of

Array = NDArray[Any]

SILENCE, LIP_CLOSURE = "sil", "PP"
CURVE_RATE_HZ = 200
ANTICIPATION_SECONDS = 0.02
"""Mouths move a little before the sound."""

VISEMES: dict[str, dict[str, float]] = {
    SILENCE: {},
    LIP_CLOSURE: {
        "jawOpen": 0.06,
        "mouthClose": 0.06,
        "mouthPress": 0.35,
        "mouthRollLower": 0.08,
        "mouthRollUpper": 0.06,
    },
    "FF": {"jawOpen": 0.08, "mouthRollLower": 0.55, "mouthUpperUp": 0.25},
    "TH": {"jawOpen": 0.14, "mouthLowerDown": 0.15, "mouthUpperUp": 0.12},
    "DD": {"jawOpen": 0.10, "mouthLowerDown": 0.25, "mouthUpperUp": 0.10, "mouthStretch": 0.10},
    "kk": {"jawOpen": 0.14, "mouthLowerDown": 0.15, "mouthStretch": 0.10},
    "CH": {"jawOpen": 0.10, "mouthFunnel": 0.45, "mouthPucker": 0.15, "mouthLowerDown": 0.15},
    "SS": {"jawOpen": 0.03, "mouthStretch": 0.25, "mouthLowerDown": 0.30, "mouthUpperUp": 0.12},
    "RR": {"jawOpen": 0.12, "mouthFunnel": 0.30, "mouthPucker": 0.20},
    "aa": {"jawOpen": 0.42, "mouthLowerDown": 0.25, "mouthUpperUp": 0.12},
    "ae": {"jawOpen": 0.34, "mouthStretch": 0.20, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15},
    "EH": {"jawOpen": 0.24, "mouthStretch": 0.15, "mouthSmile": 0.10, "mouthLowerDown": 0.20},
    "IH": {"jawOpen": 0.15, "mouthSmile": 0.20, "mouthStretch": 0.20, "mouthLowerDown": 0.20},
    "EE": {"jawOpen": 0.10, "mouthSmile": 0.40, "mouthStretch": 0.30, "mouthLowerDown": 0.20},
    "OH": {"jawOpen": 0.30, "mouthFunnel": 0.50, "mouthPucker": 0.20},
    "OU": {"jawOpen": 0.12, "mouthPucker": 0.75, "mouthFunnel": 0.30},
    "UH": {"jawOpen": 0.18, "mouthLowerDown": 0.15},
    "WW": {"jawOpen": 0.05, "mouthPucker": 0.85, "mouthFunnel": 0.25},
}
"""Expression weights of each viseme; names without a side stand for both sides."""

_DOMINANCE = {
    LIP_CLOSURE: 3.5,
    "FF": 2.5,
    "WW": 2.0,
    "OU": 1.8,
    "CH": 1.5,
    SILENCE: 1.0,
    "SS": 0.9,
    "TH": 0.8,
    "DD": 0.7,
    "kk": 0.5,
}

# First match counts: espeak-ng mnemonics by their beginning.
_ESPEAK = (
    ("CH", ("tS", "dZ", "S", "Z")),
    (LIP_CLOSURE, ("p", "b", "m")),
    ("FF", ("f", "v")),
    ("TH", ("T", "D")),
    ("WW", ("w",)),
    ("RR", ("r", "3", "R")),
    ("SS", ("s", "z")),
    ("DD", ("t", "d", "n", "l")),
    ("kk", ("k", "g", "N", "h", "x")),
    ("EE", ("j", "i")),
    ("IH", ("I", "y")),
    ("aa", ("A", "0", "Q")),
    ("ae", ("a",)),
    ("EH", ("E", "e")),
    ("OH", ("O", "o")),
    ("OU", ("u", "U")),
    ("UH", ("V", "@")),
)
_FLITE = {
    SILENCE: "pau h#",
    LIP_CLOSURE: "p b m",
    "FF": "f v",
    "TH": "th dh",
    "DD": "t d n l",
    "kk": "k g ng hh",
    "CH": "ch jh sh zh",
    "SS": "s z",
    "RR": "r er",
    "WW": "w",
    "EE": "y iy",
    "aa": "aa aw ay",
    "ae": "ae",
    "UH": "ah ax",
    "OH": "ao ow oy",
    "EH": "eh ey",
    "IH": "ih",
    "OU": "uh uw",
}
_FLITE_VISEME = {phone: viseme for viseme, phones in _FLITE.items() for phone in phones.split()}


@dataclass(frozen=True)
class VisemeSpan:
    """A viseme from start to end, in seconds."""

    start: float
    end: float
    viseme: str


@dataclass(frozen=True, eq=False)
class Speech:
    """Mono sound with its visemes."""

    samples: Array
    """[num_samples] i16."""
    sample_rate: int
    visemes: tuple[VisemeSpan, ...]

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.samples) / self.sample_rate


def viseme_of_espeak(phoneme: str) -> str:
    """Viseme of an espeak-ng mnemonic such as `tS` or `'aI`."""
    bare = phoneme.strip("',%=_:|-~*!\"")
    if not bare:
        return SILENCE
    return next((viseme for viseme, starts in _ESPEAK if bare.startswith(starts)), "UH")


def viseme_of_flite(phone: str) -> str:
    """Viseme of a flite phone."""
    return _FLITE_VISEME.get(phone, "UH")


def speak_with_espeak(
    text: str, voice: str = "en-us", words_per_minute: int = 155, pitch: int = 50, liveliness: int = 45
) -> Speech:
    """Speak text with espeak-ng, always alike; pitch and liveliness are 0..100."""
    # The file, not the module: a process that imports the package takes ten times as long to start.
    command = [sys.executable, "-I", "-S", espeak.__file__, voice]
    command += [str(number) for number in (words_per_minute, pitch, liveliness)]
    result = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if result.returncode == espeak.NO_LIBRARY:
        raise InputError("The speech library espeak-ng is missing. Install it: `apt-get install espeak-ng`.")
    if result.returncode == espeak.NO_DATA:
        raise InputError("espeak-ng finds no voice data. Install it again: `apt-get install espeak-ng-data`.")
    if result.returncode == espeak.NO_VOICE:
        raise InputError(f"espeak-ng has no voice {voice}. See `espeak-ng --voices`.")
    if result.returncode:
        raise InputError(
            f"espeak-ng ended with {result.returncode} and said: {result.stderr.decode(errors='replace').strip()}"
        )
    line, _, sound = result.stdout.partition(b"\n")
    told = json.loads(line)
    rate = int(told["rate"])
    samples = np.frombuffer(sound, np.int16) if sound else np.zeros(rate // 10, np.int16)
    marks = [(start, viseme_of_espeak(name) if name else SILENCE) for start, name in told["marks"]]
    marks.append((len(samples), SILENCE))
    spans = [
        VisemeSpan(start / rate, end / rate, viseme)
        for (start, viseme), (end, _) in itertools.pairwise(marks)
        if end > start
    ]
    return Speech(samples, rate, tuple(spans))


def speak_with_flite(text: str, voice: str = "slt") -> Speech:
    """Speak text with the flite program."""
    program = shutil.which("flite")
    if program is None:
        raise InputError("The speech program flite is missing. Install it: `apt-get install flite`.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-voice", voice, "-t", text, "-o", str(path), "-psdur"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.is_file():
            raise InputError(f"flite cannot speak with the voice {voice}. See `flite -lv`.")
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            rate = file.getframerate()
    return Speech(samples, rate, parse_flite(result.stdout + result.stderr))


def parse_flite(output: str) -> tuple[VisemeSpan, ...]:
    """Spans from what `flite -psdur` prints: each phone with the time at which it ends."""
    spans, start = [], 0.0
    for phone, end in re.findall(r"([a-z#]+)[:=]?([\d.]+)", output):
        if float(end) > start:
            spans.append(VisemeSpan(start, float(end), viseme_of_flite(phone)))
            start = float(end)
    return tuple(spans)


def speech_curves(
    visemes: Sequence[VisemeSpan], seconds: float, names: Sequence[str], fps: float, strength: float = 1.0
) -> Array:
    """Expression curves [T, E] of a mouth that speaks these visemes.

    Each viseme pulls with a bell-shaped weight that starts before its sound; lip closures (p, b, m) win over
    everything, so that lips do meet. After Cohen and Massaro's dominance functions, 1993.
    """
    count = max(1, int(np.ceil(seconds * CURVE_RATE_HZ)))
    time = np.arange(count) / CURVE_RATE_HZ
    total, weight = np.zeros((count, len(names))), np.full(count, 0.15)
    closed = np.zeros(count)
    for span in visemes:
        shape = np.zeros(len(names))
        for name, value in VISEMES[span.viseme].items():
            shape[columns_of(name, names)] = value * strength
        centre = (span.start + span.end) / 2 - ANTICIPATION_SECONDS
        is_tight = span.viseme in (LIP_CLOSURE, "FF")
        width = max(0.035, (span.end - span.start) * 0.55) * (0.8 if is_tight else 1.1)
        bell = np.exp(-0.5 * ((time - centre) / width) ** 2)
        pull = _DOMINANCE.get(span.viseme, 1.2) * bell
        total += pull[:, None] * shape
        weight += pull
        if span.viseme == LIP_CLOSURE:
            closure = np.exp(-0.5 * ((time - centre) / max(0.028, width * 0.7)) ** 2)
            closed = np.maximum(closed, closure)
    curves = total / weight[:, None]
    jaw = columns_of("jawOpen", names)
    curves[:, jaw] *= 1 - 0.85 * closed[:, None]
    for name in ("mouthLowerDown", "mouthUpperUp", "mouthFunnel"):
        curves[:, columns_of(name, names)] *= 1 - closed[:, None]
    close = columns_of("mouthClose", names)  # only ever undoes the jaw
    curves[:, close] = np.minimum(curves[:, close], curves[:, jaw])
    frames = np.minimum(((np.arange(int(seconds * fps)) + 0.5) / fps * CURVE_RATE_HZ).astype(int), count - 1)
    return np.clip(curves[frames], 0, 1).astype(np.float32)

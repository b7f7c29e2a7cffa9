"""Speech for clips: text to sound and timed phonemes, phonemes to visemes, visemes to expression curves.

Two voices sources, both optional system packages: espeak-ng (its C library reports phonemes with their sample
positions) and flite (its program prints them). Weights are 0..1. T frames, E expression shapes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import re
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
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


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


# Values of speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _BUFFER_MS, _CHARS_UTF8 = 2, 1, 400, 1
_EVENT_LIST_END, _EVENT_END, _EVENT_PHONEME = 0, 5, 7
_RATE, _PITCH, _RANGE = 1, 3, 4


def _espeak_library() -> ctypes.CDLL:
    found = ctypes.util.find_library("espeak-ng")
    for name in filter(None, (found, "libespeak-ng.so.1")):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise InputError("The speech library espeak-ng is missing. Install it: `apt-get install espeak-ng`.")


def speak_with_espeak(
    text: str, voice: str = "en-us", words_per_minute: int = 155, pitch: int = 50, liveliness: int = 45
) -> Speech:
    """Speak text with espeak-ng; pitch and liveliness are 0..100."""
    library = _espeak_library()
    rate = library.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, None, _PHONEME_EVENTS)
    if rate <= 0:
        raise InputError("espeak-ng finds no voice data. Install it again: `apt-get install espeak-ng-data`.")
    sound: list[Array] = []
    marks: list[tuple[int, str]] = []
    callback_type = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    )

    def receive(samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_LIST_END:
            if events[i].type == _EVENT_PHONEME:
                name = bytes(events[i].id.string).split(b"\0")[0].decode("utf8", "ignore")
                marks.append((events[i].sample, viseme_of_espeak(name)))
            elif events[i].type == _EVENT_END:
                marks.append((events[i].sample, SILENCE))
            i += 1
        return 0

    callback = callback_type(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise InputError(f"espeak-ng has no voice {voice}. See `espeak-ng --voices`.")
    for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, liveliness)):
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode()
    library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
    library.espeak_Synchronize()
    samples = np.concatenate(sound) if sound else np.zeros(rate // 10, np.int16)
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

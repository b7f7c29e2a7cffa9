"""Microphones of this machine, and sound files played as if they were one: samples with the time of their capture.

By FFmpeg's own devices, which PyAV's wheels bring: ALSA on Linux, AVFoundation on macOS, DirectShow on Windows.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vivant.errors import InputError
from vivant.media.audio import read_audio
from vivant.media.probe import probe_kind
from vivant.media.tracks import Mono

PIECE_SECONDS = Fraction(1, 50)
ALSA_CONFIG = Path("/usr/share/alsa")
"""Where systems describe their sound devices; the ALSA in PyAV's wheels looks in the folder it was built in."""


def is_sound(driving: str) -> bool:
    """Whether this is a microphone (mic, mic:NAME) or a file that has only sound. Raises InputError."""
    if driving == "mic" or driving.startswith("mic:"):
        return True
    return not driving.isdigit() and probe_kind(driving) == "audio"


def heard(
    driving: str,
    sample_rate_hz: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[tuple[np.ndarray, float]]:
    """Pieces of float32 mono (S,) in [-1, 1], and when their last sample was captured, in seconds of `clock`.

    driving: mic, mic:NAME, or a sound file, which comes as fast as it would be spoken. Raises InputError.
    """
    if driving == "mic" or driving.startswith("mic:"):
        return _microphone(driving.partition(":")[2] or None, sample_rate_hz, clock)
    return _played(driving, sample_rate_hz, clock, sleep)


def device(name: str | None, platform: str = sys.platform) -> tuple[str, str]:
    """FFmpeg's address and format of a microphone. Raises InputError where it has to be named and is not."""
    if platform == "darwin":
        return f":{name or 0}", "avfoundation"
    if platform == "win32":
        if name is None:
            raise InputError("say which microphone: -d 'mic:NAME', as Windows's sound settings call it.")
        return f"audio={name}", "dshow"
    return name or "default", "alsa"


def _microphone(
    name: str | None, sample_rate_hz: int, clock: Callable[[], float]
) -> Iterator[tuple[np.ndarray, float]]:
    address, kind = device(name)
    shown = f"microphone {name}" if name is not None else "microphone"
    mono = Mono(sample_rate_hz)
    pieces: list[np.ndarray] = []
    wanted = round(PIECE_SECONDS * sample_rate_hz)
    if kind == "alsa" and ALSA_CONFIG.is_dir():
        os.environ.setdefault("ALSA_CONFIG_DIR", str(ALSA_CONFIG))
    try:
        # ALSA's devices are asked for mono; the others take no such options and say what they give.
        options = {"channels": "1", "sample_rate": "48000"} if kind == "alsa" else {}
        with av.open(address, format=kind, options=options) as container:
            for frame in container.decode(audio=0):
                pieces.append(mono.push(frame))
                if sum(map(len, pieces)) >= wanted:
                    yield np.concatenate(pieces), clock()
                    pieces.clear()
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"there is no {shown} that can be read ({error}); plug one in, name it (on Linux `arecord -l` lists "
            "cards: -d mic:plughw:0), or give a sound file."
        ) from error
    raise InputError(f"the {shown} gives no more sound; plug it in again.")


def _played(
    path: str, sample_rate_hz: int, clock: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[tuple[np.ndarray, float]]:
    began, due = clock(), 0.0
    for chunk in read_audio(path, sample_rate_hz, PIECE_SECONDS):
        due += len(chunk.samples) / sample_rate_hz
        sleep(max(0.0, began + due - clock()))
        yield chunk.samples, began + due

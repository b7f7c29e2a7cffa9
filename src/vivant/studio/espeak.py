"""Speech by espeak-ng's C library, which reports phonemes with their sample positions: a program of its own.

The library keeps what it has said in mind: the same sentence, said again in the same process, is a few milliseconds
longer or shorter. So each sentence has its process (`speech.speak_with_espeak`), which imports the standard library
only and thus starts in hundredths of a second.

    python espeak.py VOICE WORDS_PER_MINUTE PITCH LIVELINESS < TEXT

Prints a line of JSON, {"rate": samples a second, "marks": [[sample, phoneme], ...]} where the last of a sentence is "",
and the samples behind it, int16. Exits with one of the codes below where it cannot.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys
from typing import Any

NO_LIBRARY, NO_DATA, NO_VOICE = 11, 12, 13
"""Exit codes."""

# Values of speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _BUFFER_MS, _CHARS_UTF8 = 2, 1, 400, 1
_EVENT_LIST_END, _EVENT_END, _EVENT_PHONEME = 0, 5, 7
_RATE, _PITCH, _RANGE = 1, 3, 4


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


def library() -> ctypes.CDLL | None:
    """espeak-ng's, where it is installed."""
    found = ctypes.util.find_library("espeak-ng")
    for name in filter(None, (found, "libespeak-ng.so.1")):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def main(voice: str, words_per_minute: int, pitch: int, liveliness: int) -> int:
    espeak = library()
    if espeak is None:
        return NO_LIBRARY
    rate = espeak.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, None, _PHONEME_EVENTS)
    if rate <= 0:
        return NO_DATA
    sound: list[bytes] = []
    marks: list[tuple[int, str]] = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            sound.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _EVENT_LIST_END:
            if events[i].type == _EVENT_PHONEME:
                name = bytes(events[i].id.string).split(b"\0")[0].decode("utf8", "ignore")
                marks.append((events[i].sample, name))
            elif events[i].type == _EVENT_END:
                marks.append((events[i].sample, ""))
            i += 1
        return 0

    callback = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
    )(receive)
    espeak.espeak_SetSynthCallback(callback)
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        return NO_VOICE
    for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, liveliness)):
        espeak.espeak_SetParameter(parameter, value, 0)
    text = sys.stdin.buffer.read()
    espeak.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 0, 0, _CHARS_UTF8, None, None)
    espeak.espeak_Synchronize()
    sys.stdout.buffer.write(json.dumps({"rate": rate, "marks": marks}).encode() + b"\n" + b"".join(sound))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:])))

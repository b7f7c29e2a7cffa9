"""Phonemes to visemes to curves; the voices themselves where they are installed."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio import speech
from vivant.studio.fetch import face_points
from vivant.studio.motion import columns_of
from vivant.studio.speech import VISEMES, VisemeSpan, parse_flite, speech_curves, viseme_of_espeak

NAMES = tuple(face_points()["expression_names"])
JAW = NAMES.index("jawOpen")


@pytest.mark.parametrize(
    ("phoneme", "viseme"),
    [("tS", "CH"), ("t", "DD"), ("m", "PP"), ("'aI", "ae"), ("A:", "aa"), ("f", "FF"), ("_:", "sil"), ("w", "WW"),
     ("?", "UH")],
)  # fmt: skip
def test_visemes_of_espeak_mnemonics(phoneme: str, viseme: str) -> None:
    assert viseme_of_espeak(phoneme) == viseme


def test_every_viseme_uses_known_shapes() -> None:
    assert all(columns_of(shape, NAMES) for shapes in VISEMES.values() for shape in shapes)


def test_flite_output_gives_spans_that_follow_each_other() -> None:
    spans = parse_flite("pau:0.2 hh:0.3 ax:0.35 l:0.5 ow:0.75 pau:0.9")
    assert [span.viseme for span in spans] == ["sil", "kk", "UH", "DD", "OH", "sil"]
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert spans[-1].end == 0.9


def test_mouth_opens_for_vowels_and_closes_for_lips() -> None:
    spans = [VisemeSpan(0.0, 0.3, "sil"), VisemeSpan(0.3, 0.5, "aa"), VisemeSpan(0.5, 0.58, "PP"),
             VisemeSpan(0.58, 0.8, "aa"), VisemeSpan(0.8, 1.2, "sil")]  # fmt: skip
    curves = speech_curves(spans, 1.2, NAMES, 50.0)
    assert curves.shape == (60, 53)
    assert curves.min() >= 0
    assert curves.max() <= 1
    jaw = curves[:, JAW]
    assert jaw[20] > 0.25
    assert jaw[26] < 0.3 * jaw[20]
    assert jaw[33] > 0.25
    assert jaw[2] < 0.02
    assert jaw[-1] < 0.02
    assert (curves[:, NAMES.index("mouthClose")] <= jaw + 1e-6).all()


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="apt-get install flite"):
        speech.speak_with_flite("hello")

    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(speech.ctypes, "CDLL", no_library)
    with pytest.raises(InputError, match="apt-get install espeak-ng"):
        speech.speak_with_espeak("hello")


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_speaks() -> None:
    result = speech.speak_with_flite("My mother came home.")
    assert 0.8 < result.seconds < 4
    assert sum(span.viseme == "PP" for span in result.visemes) >= 3
    assert np.abs(result.samples).max() > 1000


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_speaks_with_timed_phonemes() -> None:
    result = speech.speak_with_espeak("My mother came home.")
    assert 0.8 < result.seconds < 4
    assert sum(span.viseme == "PP" for span in result.visemes) >= 3
    assert result.visemes[-1].end <= result.seconds + 1e-6
    with pytest.raises(InputError, match="no voice"):
        speech.speak_with_espeak("hello", voice="no-such-voice")

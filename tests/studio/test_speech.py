"""Phonemes to visemes to curves; the voices themselves where they are installed."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio import espeak, speech
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


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (espeak.NO_LIBRARY, "apt-get install espeak-ng`"),
        (espeak.NO_DATA, "apt-get install espeak-ng-data"),
        (espeak.NO_VOICE, "espeak-ng --voices"),
        (7, "ended with 7 and said: broken"),
    ],
)
def test_what_espeak_lacks_is_said(
    code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "espeak.py"
    program.write_text(f"import sys; print('broken', file=sys.stderr); sys.exit({code})")
    monkeypatch.setattr(espeak, "__file__", str(program))
    with pytest.raises(InputError, match=says):
        speech.speak_with_espeak("hello")


def test_a_missing_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(espeak.ctypes, "CDLL", no_library)
    assert espeak.main("en-us", 155, 50, 45) == espeak.NO_LIBRARY


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


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_says_the_same_whatever_it_said_before() -> None:
    first = speech.speak_with_espeak("My mother came home.")
    speech.speak_with_espeak("Vielleicht sang sie.", "de")
    again = speech.speak_with_espeak("My mother came home.")
    assert np.array_equal(first.samples, again.samples)
    assert first.visemes == again.visemes

"""A talking clip, where the face model and a voice exist."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from vivant.errors import InputError
from vivant.studio.clip import render_clip, talking_motions, write_sound
from vivant.studio.dataset import read_session
from vivant.studio.face_model import FaceModel
from vivant.studio.fetch import face_points
from vivant.studio.speech import Speech, VisemeSpan

NAMES = tuple(face_points()["expression_names"])


def test_nothing_to_say_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text"):
        render_clip(tmp_path / "clip.mp4", "  ")


def test_the_mouth_stays_closed_until_the_speech_begins_and_smiles_at_the_end() -> None:
    spans = (VisemeSpan(0.0, 0.5, "aa"), VisemeSpan(0.5, 1.0, "EE"))
    speech = Speech(np.zeros(16000, np.int16), 16000, spans)
    motions = talking_motions(speech, NAMES, 25.0, np.random.default_rng(0), 10.0)
    jaw = np.array([motion.expression[NAMES.index("jawOpen")] for motion in motions])
    smile = np.array([motion.expression[NAMES.index("mouthSmile_L")] for motion in motions])
    assert jaw[:12].max() < 0.05
    assert jaw.max() > 0.25
    assert smile[-1] > 0.4
    assert all(motion.expression.max() <= 1 for motion in motions)


def test_moods_are_there_from_the_start_and_lips_close_all_the_same() -> None:
    spans = (VisemeSpan(0.0, 1.0, "aa"), VisemeSpan(1.0, 1.4, "PP"), VisemeSpan(1.4, 3.0, "aa"))
    speech = Speech(np.zeros(48000, np.int16), 16000, spans)

    def jaw_and_all(mood_seed: int | None) -> tuple[np.ndarray, np.ndarray]:
        mood_rng = None if mood_seed is None else np.random.default_rng(mood_seed)
        motions = talking_motions(speech, NAMES, 25.0, np.random.default_rng(0), 10.0, 1.0, mood_rng)
        weights = np.array([motion.expression for motion in motions])
        return weights[:, NAMES.index("jawOpen")], weights

    plain_jaw, plain = jaw_and_all(None)
    closed = round((0.6 + 1.2) * 25)
    begins, opened = 0, 0.0
    for seed in range(12):
        jaw, weights = jaw_and_all(seed)
        begins += bool(np.abs(weights[0] - plain[0]).max() > 0.3)
        assert jaw[closed] < plain_jaw[closed] + 0.05
        opened = max(opened, float((jaw - plain_jaw)[closed - 20 : closed + 20].max()))
        assert np.abs(weights - plain).max() > 0.3
        assert np.abs(np.diff(weights - plain, axis=0)).max() < 0.5, "they change, and do not jump"
        assert np.array_equal(weights, jaw_and_all(seed)[1])
        assert np.array_equal(weights[:, NAMES.index("eyeBlink_L")], plain[:, NAMES.index("eyeBlink_L")])
    assert opened > 0.2
    assert 5 <= begins < 12, "some begin neutral"


def test_silence_is_put_around_the_speech(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "speech.wav"
    write_sound(path, Speech(np.full(800, 7, np.int16), 8000, ()), 0.5, 0.25)
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    assert len(samples) == 4000 + 800 + 2000
    assert samples[4000] == 7
    assert samples[3999] == samples[4800] == 0


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_clip_has_picture_sound_and_ground_truth(face_model: FaceModel, tmp_path: Path) -> None:
    out, truth = tmp_path / "clip.mp4", tmp_path / "0009_0.safetensors"
    count = render_clip(out, "Hi.", "slt", identity=9, size=64, session_out=truth)
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == count
        assert container.streams.audio
    session = read_session(truth)
    assert len(session.rgba) == count
    assert np.abs(session.angles[0]).max() < 0.5

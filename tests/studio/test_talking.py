"""Talking data: sentences, sound in step with the pictures, and clips that come back as they were written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from vivant.errors import InputError
from vivant.studio import talking
from vivant.studio.face_model import FaceModel
from vivant.studio.talking import LEAD_SECONDS, TalkingClip, render_talking, sentence, write_clip


def test_sentences_are_seeded_and_in_the_voices_language() -> None:
    def said(voice: str, seed: int) -> str:
        return sentence(voice, np.random.default_rng(seed), 6)

    assert said("de", 1) == said("de", 1) != said("de", 2)
    assert said("slt", 3) == said("en-us", 3)
    assert len(said("cmn", 0).split()) == 6


def test_sound_is_as_long_as_the_pictures_and_begins_with_them() -> None:
    beep = np.full(22050, 20000, np.int16)
    sound = talking._sound(beep, 22050, 50)
    assert sound.shape == (50 * 640,)
    start = round(LEAD_SECONDS * 16_000)
    assert abs(sound[: start - 20]).max() == 0
    assert sound[start + 100 : start + 15_000].min() > 0.5


def test_clips_come_back_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = TalkingClip(
        identity=7,
        voice="slt",
        text="nobody said this.",
        frames=rng.integers(0, 255, (3, 8, 8, 3), np.uint8),
        samples=rng.random(1920, np.float32),
        landmarks=rng.random((3, 68, 2), np.float32),
        expression=rng.random((3, 5), np.float32),
    )
    path = talking.clip_path(tmp_path, 7)
    write_clip(path, clip)
    again = talking.read_clip(path)
    assert (again.identity, again.voice, again.text) == (7, "slt", "nobody said this.")
    for name in ("frames", "samples", "landmarks", "expression"):
        assert np.array_equal(getattr(again, name), getattr(clip, name))
    assert talking.list_clips(tmp_path) == [path]
    with safe_open(path, framework="numpy") as file:
        assert len(file.metadata()) == 1, "several would be in another order in every process"
    with pytest.raises(InputError, match="studio talk"):
        talking.read_clip(talking.clip_path(tmp_path, 8))


def test_clips_of_before_are_read(tmp_path: Path) -> None:
    arrays = {
        name: np.zeros((1, 4, 4, 3), np.uint8) for name in ("frames", "samples", "landmarks", "expression")
    }
    path = talking.clip_path(tmp_path, 3)
    save_file(arrays, path, {"identity": "3", "voice": '"slt"', "text": '"so."'})
    assert talking.read_clip(path).voice == "slt"


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_a_rendered_clip_speaks_in_step(
    face_model: FaceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talking, "ESPEAK_VOICES", ())
    (path,) = render_talking(tmp_path, [1], seconds=2, size=64)
    clip = talking.read_clip(path)
    assert clip.frames.shape == (50, 64, 64, 3)
    assert len(clip.samples) == 50 * 640
    loudness = np.abs(clip.samples.reshape(50, 640)).mean(1)
    gap = np.linalg.norm(clip.landmarks[:, 62] - clip.landmarks[:, 66], axis=1)
    assert loudness[:14].max() == 0
    assert np.corrcoef(loudness, gap)[0, 1] > 0.3

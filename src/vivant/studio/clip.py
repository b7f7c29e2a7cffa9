"""Talking clips of synthetic people, with sound: examples, tests and voice training.

A clip starts neutral and frontal with the mouth closed, as a driving clip should.
"""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.errors import InputError
from vivant.studio.background import compose, sample_background
from vivant.studio.camera import Camera
from vivant.studio.dataset import check_size, make_session, write_session
from vivant.studio.face_model import load_face_model
from vivant.studio.identity import Look, make_look, make_person
from vivant.studio.idle import fade_in, idle_motions, moods
from vivant.studio.motion import Motion, columns_of
from vivant.studio.renderer import Renderer
from vivant.studio.speech import Speech, speak_with_espeak, speak_with_flite, speech_curves

Array = NDArray[Any]

CALM_SECONDS = 0.6
TAIL_SECONDS = 0.7
MOOD_WHILE_SPEAKING = 0.5
"""Share of a mood that a mouth keeps while it speaks; where it closes for a sound, it keeps none."""
CLOSED_LIPS = 0.21875
"""Weight of mouthPress in lips that are closed for a sound, at an articulation of 1."""
FLITE_VOICES = ("awb", "kal", "kal16", "rms", "slt")


def speak(text: str, voice: str) -> Speech:
    """Speak text with a flite voice (awb, kal, kal16, rms, slt) or else an espeak-ng voice such as en-us."""
    return speak_with_flite(text, voice) if voice in FLITE_VOICES else speak_with_espeak(text, voice)


def talking_motions(
    speech: Speech,
    names: Sequence[str],
    fps: float,
    rng: np.random.Generator,
    turn_degrees: float,
    articulation: float = 1.0,
    mood_rng: np.random.Generator | None = None,
) -> list[Motion]:
    """Movement of a clip in which the speech starts after CALM_SECONDS and ends with a smile.

    articulation: how strongly mouths shape their sounds. mood_rng: whence moods come, which faces have from the first
    frame on (`idle.moods`); None for faces that begin neutral.
    """
    num_frames = int(np.ceil((CALM_SECONDS + speech.seconds + TAIL_SECONDS) * fps))
    mouth = np.zeros((num_frames, len(names)), np.float32)
    curves = speech_curves(speech.visemes, speech.seconds, names, fps, articulation)
    first = round(CALM_SECONDS * fps)
    mouth[first : first + len(curves)] = curves[: num_frames - first]
    smile = 0.55 * fade_in(num_frames, fps, CALM_SECONDS + speech.seconds - 0.3, 0.6)
    for name, share in (("mouthSmile", 1.0), ("cheekSquint", 0.6)):
        mouth[:, columns_of(name, names)] += share * smile[:, None]
    if mood_rng is not None:
        mood = moods(names, num_frames, fps, mood_rng)
        of_mouth = [i for i, name in enumerate(names) if name.startswith(("mouth", "jaw"))]
        closed = mouth[:, columns_of("mouthPress", names)].max(1) / max(1e-6, CLOSED_LIPS * articulation)
        speaking = np.zeros(num_frames, np.float32)
        speaking[first : first + len(curves)] = 1
        kept = 1 - np.maximum((1 - MOOD_WHILE_SPEAKING) * speaking, closed.clip(0, 1))
        mood[:, of_mouth] *= kept[:, None]
        mouth += mood
    idle = idle_motions(names, num_frames, fps, rng, CALM_SECONDS, turn_degrees)
    return [
        replace(motion, expression=np.clip(motion.expression + spoken, 0, 1))
        for motion, spoken in zip(idle, mouth, strict=True)
    ]


def in_view(scene: Look, view_cm: float) -> Look:
    """The scene with the head in the middle of a picture that is `view_cm` wide where the head is."""
    size = scene.camera.size_px
    camera = Camera(-float(scene.head_place[2]) * size / view_cm, size)
    return replace(scene, camera=camera, head_place=scene.head_place * np.array([0, 0, 1], np.float32))


def write_sound(path: Path, speech: Speech, lead_seconds: float, tail_seconds: float) -> None:
    """Write a WAV file with silence before and after the speech."""
    silence = [
        np.zeros(round(seconds * speech.sample_rate), np.int16) for seconds in (lead_seconds, tail_seconds)
    ]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(speech.sample_rate)
        file.writeframes(np.concatenate([silence[0], speech.samples, silence[1]]).astype("<i2").tobytes())


def render_clip(
    out: Path,
    text: str,
    voice: str = "en-us",
    identity: int = 0,
    look: int = 0,
    size: int = 256,
    fps: int = 25,
    seed: int = 0,
    turn_degrees: float = 15.0,
    articulation: float = 1.0,
    view_cm: float | None = None,
    crf: int = 20,
    overwrite: bool = False,
    session_out: Path | None = None,
) -> int:
    """Render a synthetic person who says `text` into the video `out`; returns the number of frames.

    voice is a flite or espeak-ng voice. identity, look and seed choose the person as in `render_dataset`.
    turn_degrees is how far the head turns at most, articulation how strongly the mouth shapes its sounds.
    view_cm is the width of the scene at the head; None keeps the look's own camera. session_out is where the
    ground truth of all frames goes, as a session of the data set; None writes none.
    """
    from vivant.media.writer import (
        VideoWriter,
    )  # data sets of talking people need speech, and no video library

    if not text.strip():
        raise InputError("There is no text to speak. Give at least one word.")
    if session_out is not None:
        check_size(size)
    cv2.setNumThreads(1)
    speech = speak(text, voice)
    model = load_face_model()
    scene = make_look(model, make_person(model, identity, seed), look, size, seed)
    if view_cm is not None:
        scene = in_view(scene, view_cm)
    renderer = Renderer(model, scene)
    rng = np.random.default_rng([seed, identity, look, 11])
    background = sample_background(size, rng)
    motions = talking_motions(speech, model.expression_names, fps, rng, turn_degrees, articulation)
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        write_sound(sound, speech, CALM_SECONDS, TAIL_SECONDS)
        with VideoWriter(
            out, Fraction(fps), size, size, crf=crf, audio_from=sound, overwrite=overwrite
        ) as writer:
            frames = []
            for motion in motions:
                frame = renderer.render(motion)
                writer.write(compose(frame.rgba, background))
                if session_out is not None:
                    frames.append(frame)
    if session_out is not None:
        write_session(session_out, make_session(renderer, frames, seed))
    return len(motions)

"""Talking data: short clips of synthetic people who speak, with sound and the truth about their lips, for training.

One safetensors file per clip. Frame f shows the moment of samples 640 f to 640 f + 639 (25 frames and 16,000 samples a
second). Legend: N frames, S image side, L samples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.signal import resample_poly

from vivant.errors import InputError
from vivant.media.staging import make_folder, output_errors
from vivant.studio.background import compose, sample_background
from vivant.studio.clip import FLITE_VOICES, in_view, speak, talking_motions
from vivant.studio.face_model import load_face_model
from vivant.studio.facts import packed, unpacked
from vivant.studio.identity import make_look, make_person
from vivant.studio.renderer import Renderer
from vivant.studio.together import each

Array = NDArray[Any]

FPS = 25
SAMPLE_RATE_HZ = 16_000
NUM_LANDMARKS, NUM_BLENDSHAPES = 68, 53
TURN_DEGREES = 14.0
LEAST_TURN = 2 / 7
"""Of the largest turn: how far the stillest head of a set turns."""
LEAD_SECONDS = 0.6
"""Silence before the speech, as `talking_motions` lays it."""
ESPEAK_VOICES = (
    "en-us",
    "en-us+f1",
    "en-us+f2",
    "en-us+f4",
    "en-us+m3",
    "en-us+m5",
    "de",
    "fr",
    "es",
    "it",
    "cmn",
)
_WORDS = {
    "en": "the a my your this every old small quiet yellow open river bird morning window people music water house "
    "friend road letter market garden before after under never always maybe walked sang opened called moved kept "
    "found measured five eleven above home voice paper winter mother journey butter fish vacuum thought",
    "de": "das ein mein jeder alte kleine offene Fluss Vogel Morgen Fenster Leute Wasser Haus Freund Weg Brief Garten "
    "vor nach nie immer vielleicht ging sang rief fand bewegte Papier Winter Mutter Reise Butter Fisch",
    "fr": "le une mon chaque vieux petit ouvert fleuve oiseau matin fenetre gens musique eau maison ami route lettre "
    "jardin avant jamais toujours peut-etre marchait chantait ouvrait papier hiver mere voyage beurre",
    "es": "el una mi cada viejo abierto rio pajaro ventana gente musica agua casa amigo camino carta jardin antes "
    "nunca siempre quizas caminaba cantaba abria papel invierno madre viaje pescado",
    "it": "il una mio ogni vecchio piccolo aperto fiume uccello mattina finestra gente musica acqua casa amico strada "
    "lettera giardino prima mai sempre forse camminava cantava apriva carta inverno madre viaggio burro",
    "cm": "wo3 ni3 ta1 men2 de5 hao3 ren2 shui3 hua1 ma1 ma2 bu4 shi4 zai4 lai2 qu4 da4 xiao3 shan1 yue4",
}


@dataclass(frozen=True, eq=False)
class TalkingClip:
    """A clip with its truth."""

    identity: int
    voice: str
    text: str
    frames: Array
    """u8 [N, S, S, 3] in front of a background."""
    samples: Array
    """f32 [640 N] in [-1, 1]."""
    landmarks: Array
    """f32 [N, NUM_LANDMARKS, 2] pixels."""
    expression: Array
    """f32 [N, NUM_BLENDSHAPES] weights."""


def sentence(voice: str, rng: np.random.Generator, num_words: int) -> str:
    """Words of the voice's language in random order: what matters is how they sound, not what they say."""
    words = _WORDS.get(voice[:2], _WORDS["en"]).split()
    return " ".join(words[int(rng.integers(len(words)))] for _ in range(num_words)) + "."


def clip_path(folder: Path, identity: int) -> Path:
    """Where the clip of a person lies."""
    return folder / f"{identity:04d}.talk.safetensors"


def make_clip(
    identity: int,
    seconds: float,
    size_px: int,
    seed: int,
    turn_degrees: float = TURN_DEGREES,
    view_cm: float | None = None,
    articulation: float = 1.0,
    moods: bool = False,
) -> TalkingClip:
    """Render a person who talks for about `seconds`. See `render_talking`."""
    rng = np.random.default_rng([seed, identity, 23])
    voices = FLITE_VOICES + ESPEAK_VOICES
    voice = voices[int(rng.integers(len(voices)))]
    text = sentence(voice, rng, max(3, round(2.2 * seconds)))
    speech = speak(text, voice)
    model = load_face_model()
    scene = make_look(model, make_person(model, identity, seed), 0, size_px, seed)
    renderer = Renderer(model, scene if view_cm is None else in_view(scene, view_cm))
    turn = float(rng.uniform(LEAST_TURN * turn_degrees, turn_degrees))
    mood_rng = np.random.default_rng([seed, identity, 29]) if moods else None
    motions = talking_motions(speech, model.expression_names, FPS, rng, turn, articulation, mood_rng)
    motions = motions[: round(seconds * FPS)]
    background = sample_background(size_px, rng)
    drawn = [renderer.render(motion) for motion in motions]
    return TalkingClip(
        identity=identity,
        voice=voice,
        text=text,
        frames=np.stack([compose(frame.rgba, background) for frame in drawn]),
        samples=_sound(speech.samples, speech.sample_rate, len(motions)),
        landmarks=np.stack([frame.keypoint_xy[:68] for frame in drawn]).astype(np.float32),
        expression=np.stack([frame.expression for frame in drawn]).astype(np.float32),
    )


def _sound(samples: Array, rate: int, num_frames: int) -> Array:
    """int16 speech at any rate -> float32 at 16 kHz, behind its silence, exactly as long as the pictures."""
    speech = resample_poly(samples.astype(np.float64) / 32768, SAMPLE_RATE_HZ, rate)
    whole = np.zeros(num_frames * SAMPLE_RATE_HZ // FPS, np.float32)
    start = round(LEAD_SECONDS * SAMPLE_RATE_HZ)
    part = speech[: max(0, len(whole) - start)]
    whole[start : start + len(part)] = part
    return whole


def write_clip(path: Path, clip: TalkingClip) -> None:
    """Write to a temporary name first, so that a reader never meets half a file."""
    make_folder(path.parent)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    arrays = {name: getattr(clip, name) for name in ("frames", "samples", "landmarks", "expression")}
    facts = packed({name: getattr(clip, name) for name in ("identity", "voice", "text")})
    with output_errors(path):
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, facts)
        temporary.replace(path)


def read_clip(path: Path) -> TalkingClip:
    """Read a clip written by `write_clip`. Raises InputError when there is none."""
    if not path.is_file():
        raise InputError(f"There is no talking clip {path}. Render some with `vivant studio talk`.")
    with safe_open(path, framework="numpy") as file:
        facts = unpacked(file.metadata())
        return TalkingClip(**facts, **{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def read_frames(path: Path, rows: Sequence[int]) -> Array:
    """Some frames of a clip, u8 [N, S, S, 3]; nothing else is read."""
    with safe_open(path, framework="numpy") as file:
        frames = file.get_slice("frames")
        return np.concatenate([frames[row : row + 1] for row in rows])


def read_landmarks(path: Path) -> tuple[Array, int]:
    """Landmarks f32 [N, 68, 2] of a clip and the side of its pictures, without reading those."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("landmarks"), int(file.get_slice("frames").get_shape()[1])


def count_frames(path: Path) -> int:
    """Frames of a clip, without reading them."""
    with safe_open(path, framework="numpy") as file:
        return int(file.get_slice("samples").get_shape()[0] // (SAMPLE_RATE_HZ // FPS))


def list_clips(folder: Path) -> list[Path]:
    """All finished clips of a folder, by identity."""
    return sorted(folder.glob("[0-9]*.talk.safetensors"))


def _render_one(identity: int, out: Path, overwrite: bool, make: Callable[[int], TalkingClip]) -> int:
    cv2.setNumThreads(1)
    path = clip_path(out, identity)
    if overwrite or not path.exists():
        write_clip(path, make(identity))
    return identity


def render_talking(
    out: Path,
    identities: Sequence[int],
    seconds: float = 5.0,
    size: int = 160,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    turn_degrees: float = TURN_DEGREES,
    view_cm: float | None = None,
    articulation: float = 1.0,
    moods: bool = False,
) -> list[Path]:
    """Render one clip per person into the folder `out`; returns their paths. Clips that exist are kept.

    turn_degrees: how far heads turn at most; each person draws a limit of 2/7 of it to all of it. view_cm: width of the
    scene at the head; None keeps each look's own camera. articulation: how strongly mouths shape their sounds; at 1
    lips part by a third of a mouth's width, at 1.8 by more than half of it. moods: faces grin, laugh or pout from the
    first frame on, and while they speak; without, they begin neutral. The same numbers and seed give the same
    bytes. progress is called with (finished, all).
    """
    if size % 4 or size < 32:
        raise InputError(f"The size {size} does not work. Choose a multiple of 4 of at least 32.")
    load_face_model()
    make_folder(out)
    make = partial(
        make_clip,
        seconds=seconds,
        size_px=size,
        seed=seed,
        turn_degrees=turn_degrees,
        view_cm=view_cm,
        articulation=articulation,
        moods=moods,
    )
    render = partial(_render_one, out=out, overwrite=overwrite, make=make)
    each(render, identities, workers, progress)
    return [clip_path(out, identity) for identity in identities]

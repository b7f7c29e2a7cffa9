"""Smooth movement for clips: wandering head, saccades, blinks and a smile, to be mixed with speech.

Degrees and weights as in motion.py. T frames, E expression shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from vivant.studio.motion import Motion, columns_of, sample_mood, set_gaze_lids

Array = NDArray[Any]

BLINK_SECONDS = 0.11
"""Half of the time a blink takes."""
MOST_SHIFT_CM = 0.5
SHIFTS_FULLY_DEGREES = 4.0
"""A head that turns less than this is also moved less."""
MOOD_SECONDS = (0.5, 1.8)
MOOD_CHANGES_SECONDS = 0.35
MOOD_NONE = 0.25
"""Share of moods that are none."""
TORSO_FOLLOWS = np.array([0.25, 0.12, 0.15], np.float32)


def wander(num_frames: int, fps: float, seconds: float, rng: np.random.Generator) -> Array:
    """Smooth random curve [T] with values within about -1..1 that changes over `seconds`."""
    sigma = max(1.0, seconds * fps / 2)
    margin = int(4 * sigma)
    curve = gaussian_filter1d(rng.normal(size=num_frames + 2 * margin), sigma)[margin : margin + num_frames]
    return np.asarray(np.clip(curve / (np.abs(curve).max() + 1e-9), -1, 1), np.float32)


def fade_in(num_frames: int, fps: float, start: float, seconds: float) -> Array:
    """Curve [T] that is 0 until `start` and rises smoothly to 1 within `seconds`."""
    share = np.clip((np.arange(num_frames) / fps - start) / seconds, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def blinks(num_frames: int, fps: float, first: float, rng: np.random.Generator) -> Array:
    """Blink weight [T] with a blink at `first` seconds and then every few seconds."""
    time, weight = np.arange(num_frames) / fps, np.zeros(num_frames)
    at = first
    while at < num_frames / fps:
        weight = np.maximum(weight, np.clip(1.15 - np.abs(time - at) / BLINK_SECONDS, 0, 1))
        at += rng.gamma(3.0, 0.9)
    return weight.astype(np.float32)


def saccades(num_frames: int, fps: float, reach_degrees: float, rng: np.random.Generator) -> Array:
    """Gaze [T, 2] that jumps between places near the camera."""
    gaze, frame = np.zeros((num_frames, 2), np.float32), 0
    while frame < num_frames:
        hold = max(2, int(rng.gamma(2.5, 0.35) * fps))
        away = rng.uniform() < 0.45
        gaze[frame : frame + hold] = rng.normal(size=2) * reach_degrees * (1.0 if away else 0.15) * [1, 0.6]
        frame += hold
    return np.asarray(gaussian_filter1d(gaze, 0.6, axis=0), np.float32)


def moods(names: Sequence[str], num_frames: int, fps: float, rng: np.random.Generator) -> Array:
    """Expression weights [T, E] that hold a mood from the first frame on, then change to another, and so on."""
    track, at = np.zeros((num_frames, len(names)), np.float32), 0.0
    while at < num_frames / fps:
        mood = sample_mood(names, rng) * (rng.uniform() >= MOOD_NONE)
        share = fade_in(num_frames, fps, at, MOOD_CHANGES_SECONDS)[:, None] if at else np.float32(1)
        track += share * (mood - track)
        at += rng.uniform(*MOOD_SECONDS)
    return track


def idle_motions(
    names: Sequence[str],
    num_frames: int,
    fps: float,
    rng: np.random.Generator,
    calm_seconds: float,
    turn_degrees: float = 15.0,
) -> list[Motion]:
    """A clip that starts neutral and frontal for calm_seconds and then moves without speaking."""
    awake = fade_in(num_frames, fps, calm_seconds, 0.8)
    reach = np.array([turn_degrees, 0.4 * turn_degrees, 0.4 * turn_degrees])
    slow = np.stack([wander(num_frames, fps, 1.6, rng) for _ in range(3)], 1)
    quick = np.stack([wander(num_frames, fps, 0.35, rng) for _ in range(3)], 1)
    angles = (slow + 0.12 * quick) / 1.12 * reach * awake[:, None]
    # The eyes keep to the camera by turning against the head.
    gaze = saccades(num_frames, fps, 7.0, rng) * awake[:, None] - 0.6 * angles[:, :2]
    lids = blinks(num_frames, fps, 0.6 * calm_seconds, rng)
    smile = 0.45 * awake * np.clip(wander(num_frames, fps, 1.5, rng) + 0.25, 0, 1)
    brows = 0.6 * awake * np.clip(wander(num_frames, fps, 0.8, rng), 0, 1)
    shift = np.stack([wander(num_frames, fps, 2.0, rng) for _ in range(3)], 1) * awake[:, None]
    shift *= MOST_SHIFT_CM * min(1.0, turn_degrees / SHIFTS_FULLY_DEGREES)
    weights = {"eyeBlink": lids, "mouthSmile": smile, "cheekSquint": 0.6 * smile, "browInnerUp": brows,
               "browOuterUp": 0.7 * brows}  # fmt: skip
    motions = []
    for frame in range(num_frames):
        expression = np.zeros(len(names), np.float32)
        for name, curve in weights.items():
            expression[columns_of(name, names)] = curve[frame]
        set_gaze_lids(expression, gaze[frame], names)
        head = angles[frame].astype(np.float32)
        motions.append(Motion(expression, gaze[frame].astype(np.float32), head, head * TORSO_FOLLOWS,
                              shift[frame].astype(np.float32)))  # fmt: skip
    return motions

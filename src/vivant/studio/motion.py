"""What moves: random single frames for training sessions and smooth curves for clips.

Expression weights are 0..1, angles and gaze in degrees: yaw to image right, pitch down, roll counter-clockwise.
T is the number of frames, E the number of expression shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

GAZE_YAW_LIMIT_DEGREES, GAZE_PITCH_LIMIT_DEGREES = 32.0, 20.0
POSE_SPREAD_DEGREES = np.array([20.0, 11.0, 8.0])
POSE_LIMIT_DEGREES = np.array([45.0, 25.0, 25.0])
NEAR_SHARE = 0.6
NEAR_SPREAD_DEGREES = np.array([3.0, 2.0, 1.5])

# Probability and largest weight of each shape; a name without side stands for both sides of a pair.
# Blinks and eye-look shapes are missing here because they are tied to lids and gaze.
_SHAPES: dict[str, tuple[float, float]] = {
    "jawForward": (0.08, 0.7), "jawLeft": (0.07, 0.7), "jawRight": (0.07, 0.7),
    "mouthSmile": (0.35, 1.0), "mouthFrown": (0.15, 0.9), "mouthPucker": (0.16, 1.0), "mouthFunnel": (0.16, 1.0),
    "mouthUpperUp": (0.25, 0.8), "mouthLowerDown": (0.28, 0.9), "mouthStretch": (0.16, 0.8),
    "mouthPress": (0.12, 0.7), "mouthDimple": (0.10, 0.7), "mouthLeft": (0.08, 0.8), "mouthRight": (0.08, 0.8),
    "mouthRollUpper": (0.10, 0.8), "mouthRollLower": (0.12, 0.8), "mouthShrugUpper": (0.10, 0.7),
    "mouthShrugLower": (0.12, 0.7), "cheekPuff": (0.08, 0.9), "cheekSquint": (0.20, 1.0), "noseSneer": (0.15, 0.9),
    "browDown": (0.22, 1.0), "browInnerUp": (0.25, 1.0), "browOuterUp": (0.22, 1.0), "eyeSquint": (0.20, 1.0),
    "eyeWide": (0.15, 1.0),
}  # fmt: skip


# Shapes that go together on real faces, each with its range. Drawn one by one, teeth behind closed jaws (a grin) would
# hardly ever be seen, and drivers grin more than they gape.
_MOODS: tuple[dict[str, tuple[float, float]], ...] = (
    {  # grin
        "mouthSmile": (0.4, 1.0), "mouthUpperUp": (0.1, 0.7), "mouthLowerDown": (0.3, 1.0), "jawOpen": (0.0, 0.2),
        "cheekSquint": (0.0, 0.9), "eyeSquint": (0.0, 0.6),
    },
    {  # laugh
        "mouthSmile": (0.4, 1.0), "mouthUpperUp": (0.1, 0.6), "mouthLowerDown": (0.1, 0.8), "jawOpen": (0.2, 0.8),
        "cheekSquint": (0.2, 1.0), "eyeSquint": (0.0, 0.8),
    },
    {  # grimace
        "mouthStretch": (0.2, 0.8), "mouthLowerDown": (0.3, 1.0), "mouthUpperUp": (0.1, 0.8), "jawOpen": (0.0, 0.25),
        "noseSneer": (0.0, 0.9), "browDown": (0.0, 0.9), "cheekSquint": (0.0, 0.8),
    },
    {"mouthSmile": (0.3, 1.0), "mouthDimple": (0.0, 0.5), "cheekSquint": (0.0, 0.6)},  # smile
    {"mouthPucker": (0.4, 1.0), "mouthFunnel": (0.0, 0.5), "browInnerUp": (0.0, 0.5)},  # kiss
    {"mouthFunnel": (0.2, 1.0), "jawOpen": (0.1, 0.6), "browInnerUp": (0.0, 0.8), "eyeWide": (0.0, 0.7)},  # oh
)  # fmt: skip
_TOGETHER = (
    *_MOODS,
    {  # speech
        "jawOpen": (0.03, 0.35), "mouthLowerDown": (0.0, 0.6), "mouthUpperUp": (0.0, 0.4), "mouthStretch": (0.0, 0.4),
    },
)  # fmt: skip


@dataclass(frozen=True)
class Motion:
    """One frame of movement."""

    expression: Array
    """[E] weights."""
    gaze: Array
    """[2] yaw, pitch relative to the head."""
    head_angles: Array
    """[3] yaw, pitch, roll."""
    torso_angles: Array
    """[3]."""
    shift_cm: Array
    """[3] head pivot against the look's resting place, camera axes."""


def columns_of(shape: str, names: Sequence[str]) -> list[int]:
    """Columns of a shape: one for a single shape, left and right for a pair named without its side."""
    found = [names.index(full) for full in (shape, shape + "_L", shape + "_R") if full in names]
    if not found:
        raise KeyError(f"no expression shape {shape}")
    return found


def set_gaze_lids(expression: Array, gaze: Array, names: Sequence[str]) -> None:
    """Move the lids along with the eyes (the eye-look shapes), in place."""
    sideways = float(np.clip(gaze[0] / GAZE_YAW_LIMIT_DEGREES, -1, 1))
    down = float(np.clip(gaze[1] / GAZE_PITCH_LIMIT_DEGREES, -1, 1))
    # Positive yaw looks to the subject's left: outwards for the left eye, inwards for the right one.
    values = {
        "eyeLookOut_L": sideways,
        "eyeLookIn_R": sideways,
        "eyeLookIn_L": -sideways,
        "eyeLookOut_R": -sideways,
        "eyeLookDown_L": down,
        "eyeLookDown_R": down,
        "eyeLookUp_L": -down,
        "eyeLookUp_R": -down,
    }
    for name, value in values.items():
        expression[names.index(name)] = max(0.0, value)


def _sample_together(
    kinds: Sequence[dict[str, tuple[float, float]]], names: Sequence[str], rng: np.random.Generator
) -> Array:
    expression = np.zeros(len(names), np.float32)
    for shape, (low, high) in kinds[int(rng.integers(len(kinds)))].items():
        weight = rng.uniform(low, high)
        for column in columns_of(shape, names):
            expression[column] = weight * rng.uniform(0.8, 1)
    return expression


def sample_mood(names: Sequence[str], rng: np.random.Generator) -> Array:
    """Weights [E] of a face that means something: a grin, a laugh, a grimace, a smile, a kiss or an oh."""
    return _sample_together(_MOODS, names, rng)


def sample_expression(names: Sequence[str], rng: np.random.Generator) -> Array:
    """Random weights [E] without lids that follow the gaze; one in ten is a neutral face, half go together."""
    expression = np.zeros(len(names), np.float32)
    if rng.uniform() < 0.1:
        return expression
    if rng.uniform() < 0.5:
        return _sample_together(_TOGETHER, names, rng)
    if rng.uniform() < 0.6:
        opening = rng.beta(1.1, 2.0) * 0.9
        expression[names.index("jawOpen")] = opening
        if rng.uniform() < 0.2:
            expression[names.index("mouthClose")] = opening * rng.uniform(0.3, 1.0)
    for shape, (probability, largest) in _SHAPES.items():
        if rng.uniform() >= probability:
            continue
        weight = rng.uniform(0.1, largest)
        lopsided = rng.uniform() < 0.3
        for column in columns_of(shape, names):
            expression[column] = weight * (rng.uniform(0, 1) if lopsided else rng.uniform(0.85, 1))
    return expression


def sample_blink(names: Sequence[str], rng: np.random.Generator) -> dict[int, float]:
    """Blink weights by column: a third of the frames have half-closed or closed lids, some only on one side."""
    left, right = columns_of("eyeBlink", names)
    kind = rng.uniform()
    if kind < 0.14:
        value = rng.uniform(0.85, 1.0)
        return {left: value, right: value}
    if kind < 0.31:
        value = rng.uniform(0.1, 0.85)
        return {left: value, right: value}
    if kind < 0.36:
        return {int(rng.choice([left, right])): rng.uniform(0.2, 1.0)}
    return {}


def sample_gaze(rng: np.random.Generator) -> Array:
    """Random gaze [2]; three in ten look straight ahead."""
    if rng.uniform() < 0.3:
        return np.asarray(rng.normal(size=2) * 1.5, np.float32)
    limit = [GAZE_YAW_LIMIT_DEGREES, GAZE_PITCH_LIMIT_DEGREES]
    return np.clip(rng.normal(size=2) * [15, 9], np.negative(limit), limit).astype(np.float32)


def sample_motion(names: Sequence[str], rng: np.random.Generator) -> Motion:
    """One random frame; poses within +-45 degrees of yaw and +-25 of pitch and roll."""
    expression, gaze = sample_expression(names, rng), sample_gaze(rng)
    set_gaze_lids(expression, gaze, names)
    for column, weight in sample_blink(names, rng).items():
        expression[column] = weight
    angles = rng.normal(size=3) * POSE_SPREAD_DEGREES
    if rng.uniform() < 0.15:
        angles *= 0.2
    elif rng.uniform() < 0.12:
        angles[0] = rng.uniform(-1, 1) * POSE_LIMIT_DEGREES[0]
    angles = np.clip(angles, -POSE_LIMIT_DEGREES, POSE_LIMIT_DEGREES).astype(np.float32)
    follow = np.array([0.35 * rng.uniform(), 0.15, 0.15])
    torso = (angles * follow + rng.normal(size=3) * 2).astype(np.float32)
    shift = (rng.normal(size=3) * [0.8, 0.6, 1.5]).astype(np.float32)
    return Motion(expression, gaze, angles, torso, shift)


def neutral_motion(names: Sequence[str]) -> Motion:
    """Frontal, relaxed, looking straight ahead."""
    zero = np.zeros(3, np.float32)
    return Motion(np.zeros(len(names), np.float32), np.zeros(2, np.float32), zero, zero, zero)


def sample_near(base: Motion, names: Sequence[str], rng: np.random.Generator) -> Motion:
    """The same head a moment later: pose the same or nearly, lids, gaze or mouth moved, or everything.

    Drivers mostly look like this. Networks that only ever see unrelated poses learn to copy the source wherever the
    pose is the same, blinks and all, and to paint eyes anew wherever it is not.
    """
    still = rng.uniform() < 0.4
    sway = np.zeros(3) if still else rng.normal(size=3) * NEAR_SPREAD_DEGREES
    angles = np.clip(base.head_angles + sway, -POSE_LIMIT_DEGREES, POSE_LIMIT_DEGREES).astype(np.float32)
    torso = (base.torso_angles + 0.2 * sway).astype(np.float32)
    shift = base.shift_cm if still else (base.shift_cm + rng.normal(size=3) * 0.15).astype(np.float32)
    expression, gaze = base.expression.copy(), base.gaze.copy()
    eyes = [i for i, name in enumerate(names) if name.startswith("eye")]
    moved = rng.uniform(size=3) < (0.6, 0.4, 0.45)  # lids, gaze, mouth and brows
    if moved[2]:
        fresh = sample_expression(names, rng)
        fresh[eyes] = expression[eyes]
        expression = fresh
    if moved[1]:
        gaze = sample_gaze(rng)
    set_gaze_lids(expression, gaze, names)
    if moved[0]:
        expression[columns_of("eyeBlink", names)] = 0
        for column, weight in sample_blink(names, rng).items():
            expression[column] = weight
    return Motion(expression, gaze, angles, torso, shift)


def session_motions(names: Sequence[str], num_frames: int, rng: np.random.Generator) -> list[Motion]:
    """Frames of a training session: the first is close to neutral and frontal, then unrelated and near ones.

    NEAR_SHARE of the rest are near (see `sample_near`) to a frame before them, a third of these to the first.
    """
    first = sample_motion(names, rng)
    motions = [
        Motion(
            first.expression * 0.15,
            first.gaze * 0.2,
            first.head_angles * 0.2,
            first.torso_angles * 0.2,
            first.shift_cm * 0.3,
        )
    ]
    while len(motions) < num_frames:
        if rng.uniform() < NEAR_SHARE:
            base = 0 if rng.uniform() < 1 / 3 else int(rng.integers(len(motions)))
            motions.append(sample_near(motions[base], names, rng))
        else:
            motions.append(sample_motion(names, rng))
    return motions[:num_frames]

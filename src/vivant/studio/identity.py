"""Who is rendered: a synthetic person (shape, skin, eyes) and a look (hair, clothes, light, camera).

Everything follows from the identity number, the look number and the seed, so a person can be made again at any
time. No real person is described: shapes are random weights of a statistical model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.studio.accessories import (
    add_bun,
    add_earrings,
    add_glasses,
    add_hat,
    flatten_under_hat,
    paint_hat,
    sample_glasses,
    sample_hat,
)
from vivant.studio.albedo import HAIR_COLOURS, Skin, cloud, paint_skin
from vivant.studio.camera import Camera
from vivant.studio.face_model import FaceModel
from vivant.studio.geometry import Outfit
from vivant.studio.hair import HairStyle, add_hair, add_lashes, beard_shells
from vivant.studio.lighting import Environment, Light, sample_light
from vivant.studio.parts import Part
from vivant.studio.surface import Colour, Number, Surface
from vivant.studio.wardrobe import add_clothes, fit_neck, paint_cloth, sample_clothes

Array = NDArray[Any]

NOISE_SIZE = 512
BLINK_GAINS = np.arange(0.8, 1.4, 0.025)
CLOSED_OPENING = -0.01
"""Lids that overlap by this share of the eye's width leave no slit."""
_IRIS = np.array([[0.10, 0.045, 0.018], [0.20, 0.10, 0.04], [0.16, 0.19, 0.10], [0.15, 0.24, 0.33],
                  [0.25, 0.30, 0.33], [0.05, 0.025, 0.015]], np.float32)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """What stays the same in every look."""

    number: int
    shape: Array
    """[V, 3] neutral vertices, cm."""
    eye_centres: Array
    skin: Skin
    iris: Array
    """[2, 3] left, right."""
    teeth: Array
    tongue: Array
    age: float
    wears_beard: float
    """Inclination to a beard, 0..1."""
    blink_gain: float
    """Factor on the blink shapes that closes this person's eyes."""


@dataclass(frozen=True, eq=False)
class Look:
    """One appearance of a person in one light and in front of one camera."""

    person: Person
    number: int
    shape: Array
    """[V, 3] the person's shape with the neck fitted to the clothes."""
    outfit: Outfit
    surface: Surface
    light: Light
    environment: Environment
    camera: Camera
    head_place: Array
    """[3] where the head's origin rests in camera space, cm."""
    torso_yaw: float


def _rng(seed: int, *numbers: int) -> np.random.Generator:
    return np.random.default_rng([seed, *numbers])


def eye_opening(model: FaceModel, vertices: Array) -> float:
    """Gap between the lids over the width of the more open eye; 0 or less when both are closed."""
    points = vertices[model.landmarks]

    def gap(first: int) -> float:
        upper, lower = points[first + 1] + points[first + 2], points[first + 4] + points[first + 5]
        width = np.linalg.norm(points[first] - points[first + 3])
        return float((upper - lower)[1] / (2 * width))

    return max(gap(36), gap(42))


def _blink_gain(model: FaceModel, shape: Array, eye_centres: Array) -> float:
    """Smallest factor on the blink shapes that brings the lids together; more would push them through."""
    expression = np.zeros(len(model.expression_names), np.float32)
    blink = [model.expression_index[name] for name in ("eyeBlink_L", "eyeBlink_R")]
    for gain in BLINK_GAINS:
        expression[blink] = gain
        if eye_opening(model, model.posed(shape, expression, np.zeros(2), eye_centres)) < CLOSED_OPENING:
            return float(gain)
    return float(BLINK_GAINS[-1])


def make_person(model: FaceModel, number: int, seed: int) -> Person:
    """The synthetic person of this number."""
    rng = _rng(seed, number)
    weights = np.clip(rng.normal(size=len(model.identity_modes)), -2, 2) * 0.9
    shape, eye_centres = model.shape(weights), model.eye_centres_of(weights)
    darkness = rng.uniform() if rng.uniform() < 0.65 else rng.uniform(0.05, 0.5)
    age = float(rng.beta(1.2, 2.0))
    inclination = rng.uniform() if rng.uniform() < 0.5 else 0.0
    stubble = float(rng.uniform(0.1, 0.8)) if inclination > 0.35 else 0.0
    freckles = float(rng.uniform(0.2, 1)) if rng.uniform() < 0.25 and darkness < 0.5 else 0.0
    skin = paint_skin(model, darkness, stubble, freckles, age, rng)
    # Brown in most of the world; with all colours alike, networks paint every eye bluish.
    brown = darkness >= 0.45 or rng.uniform() < 0.4
    iris = _IRIS[rng.choice([0, 1, 5]) if brown else rng.integers(6)] * 1.4 * rng.uniform(0.75, 1.25)
    yellow = rng.uniform(0, 1)
    teeth = np.array([0.86, 0.83 - 0.06 * yellow, 0.78 - 0.20 * yellow]) * rng.uniform(0.8, 1.05)
    tongue = np.array([0.50, 0.17, 0.15]) * rng.uniform(0.75, 1.15) * np.array([1, rng.uniform(0.85, 1.2), 1])
    return Person(
        number,
        shape,
        eye_centres,
        skin,
        np.stack([iris, iris]).astype(np.float32),
        teeth,
        tongue,
        age,
        float(inclination),
        _blink_gain(model, shape, eye_centres),
    )


_CROP = HairStyle(
    hairline=0.8,
    top_cm=1.5,
    side_cm=0.6,
    layers=8,
    droop=0.3,
    curl=0.0,
    wave=0.2,
    long_cm=0.0,
    open_degrees=0.0,
    ragged=0.5,
    parting_cm=99.0,
    seed=0,
)


def sample_hair(rng: np.random.Generator) -> HairStyle:
    """A random haircut: bald, cropped, short, curls, fringe, bob or long."""
    line = [rng.uniform(0.45, 0.62), rng.uniform(0.68, 0.95), rng.uniform(0.95, 1.3)]
    side = rng.uniform(0.3, 1.3)
    style = replace(
        _CROP,
        hairline=float(rng.choice(line, p=[0.2, 0.65, 0.15])),
        side_cm=side,
        top_cm=side + rng.uniform(0, 2.4),
        droop=rng.uniform(0, 0.9),
        curl=float(rng.choice([0.0, rng.uniform(0.2, 0.6), 1.0], p=[0.6, 0.25, 0.15])),
        wave=rng.uniform(0, 0.4),
        ragged=rng.uniform(0, 1),
        parting_cm=rng.uniform(-3.5, 3.5) if rng.uniform() < 0.45 else 99.0,
        seed=int(rng.integers(2**31)),
    )
    kind = rng.choice(["bald", "buzz", "short", "curls", "long"], p=[0.05, 0.10, 0.37, 0.10, 0.38])
    if kind == "bald":
        return replace(style, hairline=2.6, top_cm=0.15, side_cm=0.15, layers=2, droop=0.0)
    if kind == "buzz":
        length = rng.uniform(0.12, 0.35)
        return replace(style, top_cm=length * 1.3, side_cm=length, layers=4, droop=0.0, parting_cm=99.0)
    if kind == "curls":
        volume = rng.uniform(2, 4.5)
        return replace(
            style,
            hairline=max(0.75, style.hairline),
            top_cm=volume,
            side_cm=volume * rng.uniform(0.6, 1),
            layers=9,
            droop=0.1,
            curl=1.0,
            wave=0.1,
            parting_cm=99.0,
        )
    if kind == "long":
        reach = rng.choice([rng.uniform(3, 9), rng.uniform(9, 26)])
        return replace(
            style,
            side_cm=rng.uniform(0.6, 1.6),
            top_cm=rng.uniform(0.8, 2.2),
            curl=min(style.curl, 0.6),
            wave=style.wave * 0.6,
            long_cm=float(reach),
            open_degrees=rng.uniform(80, 122),
        )
    return style


def _dress(
    model: FaceModel, person: Person, shape: Array, outfit: Outfit, rng: np.random.Generator
) -> Array | None:
    """Add hair, beard, lashes and accessories; returns the texture of the hat if there is one."""
    style = sample_hair(rng)
    add_hair(outfit, model, shape, style)
    if style.long_cm > 0 and rng.uniform() < 0.15:
        outfit.pieces = [piece for piece in outfit.pieces if piece.part is not Part.HAIR]
        add_bun(outfit, shape, model, rng)
    if person.wears_beard > 0.5 and rng.uniform() < 0.8:
        outfit.shells += beard_shells(model, rng.uniform(0.15, 1.6), rng.choice([0.0, 0.4, 1.0, 1.0]), rng)
    add_lashes(outfit, model, person.eye_centres, rng.uniform(0.25, 0.55))
    if rng.uniform() < 0.25:
        add_glasses(outfit, model, shape, sample_glasses(rng))
    if rng.uniform() < 0.2:
        add_earrings(outfit, shape, model, rng)
    if rng.uniform() >= 0.12:
        return None
    hat = sample_hat(rng)
    flatten_under_hat(outfit, model, hat)
    add_hat(outfit, model, shape, hat)
    return paint_hat(hat)


def _noise() -> Array:
    raw = cloud(NOISE_SIZE, np.random.default_rng(5), 5, 0.75, 32)
    return np.asarray((raw - raw.min()) / (raw.max() - raw.min()), np.float32)


def _surface(
    person: Person, hair: Array, cloth: Array, hat: Array | None, rng: np.random.Generator
) -> Surface:
    tip = np.clip(hair * rng.uniform(0.8, 2.2), 0, 0.6) if rng.uniform() < 0.3 else hair

    colours = {
        Colour.SKIN: person.skin.tone,
        Colour.HAIR: hair,
        Colour.HAIR_TIP: tip,
        Colour.BEARD: hair * rng.uniform(0.6, 1.0),
        Colour.IRIS_LEFT: person.iris[0],
        Colour.IRIS_RIGHT: person.iris[1],
        Colour.SCLERA: np.array([0.74, 0.69, 0.66]) * rng.uniform(0.9, 1.08),
        Colour.TEETH: person.teeth,
        Colour.TONGUE: person.tongue,
        Colour.LASH: np.array([0.012, 0.009, 0.008]),
        Colour.GLASSES: rng.uniform(0.005, 0.05) if rng.uniform() < 0.6 else rng.uniform(0.02, 0.4, 3),
        Colour.JEWELLERY: np.array([0.7, 0.55, 0.25]),
    }
    numbers = {
        Number.GLOSS: rng.uniform(0.5, 1.3),
        Number.RELIEF: 0.05,
        Number.LIMBUS: rng.uniform(0.116, 0.126),
        Number.PUPIL: rng.uniform(0.034, 0.056),
        Number.HAIR_GLOSS: rng.uniform(0.3, 1.3),
    }
    return Surface(
        face_image=person.skin.face,
        head_image=person.skin.head,
        cloth_image=cloth,
        hat_image=cloth if hat is None else hat,
        bump=person.skin.bump,
        noise=_noise(),
        colours=np.array([np.broadcast_to(colours[row], 3) for row in Colour], np.float64),
        numbers=np.array([numbers[entry] for entry in Number], np.float64),
    )


def _camera(size_px: int, rng: np.random.Generator) -> tuple[Camera, Array]:
    """Camera and resting place of the head; from arm's length to a long lens, head about half the image."""
    distance = rng.uniform(60, 150)
    width_cm = rng.uniform(32, 46)
    place = rng.normal(size=3) * [1.2, 1.2, 3] + [0, 2.0, -distance]
    return Camera(size_px * distance / width_cm, size_px), place.astype(np.float32)


def make_look(model: FaceModel, person: Person, number: int, size_px: int, seed: int) -> Look:
    """The person's look of this number."""
    rng = _rng(seed, person.number, number + 1)
    clothes = sample_clothes(rng)
    shape = fit_neck(person.shape, model.neutral, model.vertex_part == 1, clothes)
    outfit = Outfit()
    torso = add_clothes(outfit, clothes)
    colour = person.skin.hair if rng.uniform() < 0.6 else HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
    hat_image = _dress(model, person, shape, outfit, rng)
    cloth_image = paint_cloth(clothes, torso, person.skin.tone)
    surface = _surface(person, colour * rng.uniform(0.75, 1.3), cloth_image, hat_image, rng)
    light, environment = sample_light(rng)
    camera, place = _camera(size_px, rng)
    return Look(
        person, number, shape, outfit, surface, light, environment, camera, place, float(rng.normal() * 10)
    )

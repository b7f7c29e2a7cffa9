"""Procedural skin: face and scalp textures with lips, brows, stubble, freckles, make-up and lid lines.

The face model has no colour, so everything is painted in texture space over a map of generic positions.
Linear light; textures are [S, S, 3] with v up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.studio.face_model import FaceModel
from vivant.studio.raster import rasterize_uv

Array = NDArray[Any]

TEXTURE_SIZE = 1024
NO_RING = 60.0

# Skin from light to dark, display-like values raised to linear light below.
_TONES = (
    np.array(
        [
            [0.63, 0.45, 0.37],
            [0.58, 0.39, 0.30],
            [0.53, 0.34, 0.245],
            [0.45, 0.275, 0.185],
            [0.36, 0.20, 0.13],
            [0.23, 0.12, 0.08],
            [0.15, 0.08, 0.055],
        ],
        np.float32,
    )
    ** 1.25
)
HAIR_COLOURS = np.array(
    [
        [0.012, 0.009, 0.008],
        [0.022, 0.014, 0.010],
        [0.05, 0.025, 0.014],
        [0.09, 0.046, 0.024],
        [0.16, 0.085, 0.04],
        [0.35, 0.22, 0.10],
        [0.48, 0.34, 0.18],
        [0.20, 0.06, 0.02],
        [0.30, 0.29, 0.28],
        [0.55, 0.54, 0.52],
    ],
    np.float32,
)


@dataclass(frozen=True, eq=False)
class FaceMaps:
    """The generic face painted into its texture tile."""

    position: Array
    """[S, S, 3] cm."""
    mouth_ring: Array
    eye_ring: Array
    landmarks: Array
    """[68, 2] in texture pixels, y down."""


@dataclass(frozen=True, eq=False)
class Skin:
    """Painted skin of one person."""

    face: Array
    head: Array
    bump: Array
    tone: Array
    """[3] average colour."""
    darkness: float
    """0 lightest .. 1 darkest."""
    hair: Array
    """[3] natural hair colour."""


@lru_cache(maxsize=1)
def face_maps(model: FaceModel) -> FaceMaps:
    """Positions and ring distances per texel of the face tile; the same for every identity."""
    face = model.triangle_part == 0
    corners, triangles = model.corner_uv[face], model.triangles[face]

    def painted(values: Array) -> Array:
        image = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE, values.shape[1]), np.float32)
        rasterize_uv(image, corners, triangles, values.astype(np.float32))
        return image

    rings = np.minimum(np.stack([model.mouth_ring, model.eye_ring], 1), NO_RING)
    ring_map = painted(rings)
    vertex_uv = np.zeros((len(model.neutral), 2), np.float32)
    vertex_uv[triangles.ravel()] = corners.reshape(-1, 2)
    landmarks = vertex_uv[model.landmarks] * [TEXTURE_SIZE, -TEXTURE_SIZE] + [0, TEXTURE_SIZE]
    return FaceMaps(painted(model.neutral), ring_map[..., 0], ring_map[..., 1], landmarks)


def cloud(size: int, rng: np.random.Generator, octaves: int, falloff: float, base: int) -> Array:
    """Smooth noise [size, size] of about unit variance: `octaves` grids from base x base, each finer by two."""
    total, weight = np.zeros((size, size), np.float32), 1.0
    power = 0.0
    for octave in range(octaves):
        cells = min(base * 2**octave, size)
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
        power += weight * weight
        weight *= falloff
    return np.asarray(total / np.sqrt(power), np.float32)


def skin_tone(darkness: float) -> Array:
    """Average skin colour [3] for a darkness of 0..1."""
    place = darkness * (len(_TONES) - 1)
    low = min(int(place), len(_TONES) - 2)
    return np.asarray(_TONES[low] * (1 - place + low) + _TONES[low + 1] * (place - low), np.float32)


def _over(image: Array, colour: Array, alpha: Array) -> Array:
    return np.asarray(image * (1 - alpha[..., None]) + np.asarray(colour, np.float32) * alpha[..., None])


def _bump_at(position: Array, centre: tuple[float, float, float], radius: float) -> Array:
    squared = ((position - np.asarray(centre, np.float32)) ** 2).sum(-1)
    return np.asarray(np.exp(-squared / (2 * radius * radius)), np.float32)


def _flush(maps: FaceMaps, rng: np.random.Generator, mottle: Array) -> Array:
    """Redness of cheeks, nose, chin and ears [S, S]."""
    cheeks = rng.uniform(0.2, 0.5)
    spots = [
        ((4.6, -0.2, 8.5), 1.9, cheeks),
        ((-4.6, -0.2, 8.5), 1.9, cheeks),
        ((0, -0.3, 12.6), 1.2, 0.35),
        ((0, -6.4, 10.5), 1.2, 0.12),
        ((0, 6, 9), 3.0, 0.06),
        ((9, 1, -1), 1.6, 0.3),
        ((-9, 1, -1), 1.6, 0.3),
    ]
    red = np.zeros(mottle.shape, np.float32)
    for centre, radius, strength in spots:
        red += strength * _bump_at(maps.position, centre, radius)
    return np.asarray(red * (1 + 0.35 * mottle), np.float32)


def _lip_mask(maps: FaceMaps) -> Array:
    upper = maps.position[..., 1] > -3.42
    border = np.where(upper, 15.2, 12.6)
    mask = 1 / (1 + np.exp((maps.mouth_ring - border + 0.4) * 2.2))
    return np.asarray(mask * (maps.mouth_ring < 40), np.float32)


def _paint_lips(image: Array, maps: FaceMaps, tone: Array, makeup: float, rng: np.random.Generator) -> Array:
    mask = _lip_mask(maps)
    natural = (
        tone
        * np.array([0.88, 0.55, 0.55])
        * rng.uniform(0.8, 1.15)
        * np.array([1, rng.uniform(0.9, 1.05), 1])
    )
    colour, strength = natural, 0.85
    if rng.uniform() < makeup:
        lipstick = np.array([[0.45, 0.05, 0.08], [0.35, 0.08, 0.14], [0.5, 0.16, 0.16], [0.2, 0.03, 0.06]])
        colour, strength = lipstick[rng.integers(4)] * rng.uniform(0.4, 1.1), 0.92
    creases = 1 + 0.10 * cloud(TEXTURE_SIZE, rng, 2, 0.8, 200) + 0.05 * np.sin(maps.position[..., 0] * 18)
    image = (
        image * (1 - strength * mask[..., None]) + strength * mask[..., None] * colour * creases[..., None]
    )
    inner = np.clip((8 - maps.mouth_ring) / 4, 0, 1) * (maps.mouth_ring < 40)
    return _over(image, np.array([0.38, 0.10, 0.09]), inner)


def _paint_lids(image: Array, maps: FaceMaps, makeup: float, rng: np.random.Generator) -> Array:
    """Darker skin around the eyes, and the lash line that makes closed eyes read as closed."""
    near = np.clip((10 - maps.eye_ring) / 10, 0, 1) ** 1.2 * (maps.eye_ring > 0)
    image = image * (1 - rng.uniform(0.08, 0.26) * near[..., None] * np.array([0.7, 1, 0.9]))
    upper = np.clip((maps.position[..., 1] - 3.3) / 0.5, 0, 1)
    line = np.exp(-(((maps.eye_ring - 2.4) / rng.uniform(0.9, 1.6)) ** 2)) * (maps.eye_ring > 0)
    strength = np.clip(rng.uniform(0.65, 0.95) * upper + rng.uniform(0.15, 0.5) * (1 - upper), 0, 1)
    image = _over(image, np.array([0.02, 0.013, 0.012]), np.clip(line * strength, 0, 0.95))
    if rng.uniform() < 0.7 * makeup:  # eye shadow
        shadow = np.clip((9 - maps.eye_ring) / 6, 0, 1) * (maps.eye_ring > 2) * upper
        image = _over(image, image.mean((0, 1)) * rng.uniform(0.2, 0.9, 3), shadow * rng.uniform(0.2, 0.6))
    return image


def _brow_strokes(maps: FaceMaps, rng: np.random.Generator) -> Array:
    """Coverage [S, S] of the brows, drawn hair by hair."""
    size = TEXTURE_SIZE
    mask = np.zeros((size, size), np.float32)
    thickness, raise_px = rng.uniform(0.45, 1.3), rng.normal() * size * 0.003
    stretch = rng.uniform(0.9, 1.1)
    knots = np.arange(5)
    for points, side in ((maps.landmarks[17:22], 1), (maps.landmarks[22:27][::-1], -1)):
        for _ in range(int(420 * (0.5 + 0.5 * thickness))):
            along = rng.uniform(0.1, 4 * min(1, stretch) - 0.05)
            width = size * 0.0085 * thickness * np.interp(along, [0, 1.5, 4], [0.35, 1.0, 1.0])
            centre = np.array([np.interp(along, knots, points[:, 0]), np.interp(along, knots, points[:, 1])])
            centre += [0, rng.normal() * width * 0.8 - size * 0.004 + raise_px]
            angle = np.interp(along, [0, 2, 4], [0.3, -0.35, -1.2])
            half = np.array([-side * np.cos(angle), np.sin(angle)]) * size * rng.uniform(0.004, 0.008)
            ends = [tuple(((centre + sign * half) * 16).astype(int).tolist()) for sign in (-1, 1)]
            cv2.line(mask, ends[0], ends[1], float(rng.uniform(0.5, 1)), 1, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7) * 1.1 + 0.45 * cv2.GaussianBlur(mask, (0, 0), 4)
    return np.asarray(np.clip(soft * rng.uniform(0.6, 1.1), 0, 0.93), np.float32)


def beard_area(position: Array) -> Array:
    """Where a full beard grows, 0..1, from generic positions [..., 3] (cm): jaw, chin and moustache."""
    x, y, z = np.abs(position[..., 0]), position[..., 1], position[..., 2]
    jaw = np.clip((-3.9 - y + 0.95 * np.clip(x - 2.4, 0, 6)) / 2.0, 0, 1) * np.clip((y + 9.6) / 1.2, 0, 1)
    jaw *= np.clip((z - 2.2) / 1.2, 0, 1)
    moustache = np.clip(1.5 - ((y + 2.05 + 0.12 * x * x * (x > 1.2)) / 0.5) ** 2 - (x / 3.4) ** 4, 0, 1) * (
        z > 8
    )
    return np.asarray(np.clip(jaw + moustache, 0, 1), np.float32)


def _paint_stubble(
    image: Array, maps: FaceMaps, colour: Array, strength: float, rng: np.random.Generator
) -> Array:
    area = cv2.GaussianBlur(beard_area(maps.position), (0, 0), 6) * (1 - _lip_mask(maps))
    dots = (rng.uniform(size=area.shape) < 0.35).astype(np.float32)
    coverage = strength * area * (0.25 + cv2.GaussianBlur(dots, (0, 0), 0.7))
    return _over(image, colour * 0.8, np.clip(coverage, 0, 0.85))


def _paint_spots(image: Array, maps: FaceMaps, density: float, rng: np.random.Generator) -> Array:
    """Freckles over nose and cheeks, and a few moles anywhere."""
    size = TEXTURE_SIZE
    spots = np.zeros((size, size), np.float32)
    places = rng.integers(0, size, (int(1800 * density), 2))
    spots[places[:, 1], places[:, 0]] = rng.uniform(0.3, 1, len(places)) * 12
    x, y = np.abs(maps.position[..., 0]), maps.position[..., 1]
    area = np.exp(-(((x - 3) / 4) ** 2 + ((y - 1) / 3.5) ** 2))
    freckles = np.clip(cv2.GaussianBlur(spots, (0, 0), 1.6) * area, 0, 0.5)
    image = image * (1 - freckles[..., None] * np.array([0.5, 0.8, 0.9]))
    moles = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(0, 6)):
        centre = tuple(rng.integers(size // 8, size * 7 // 8, 2).tolist())
        cv2.circle(moles, centre, int(rng.integers(2, 5)), float(rng.uniform(0.4, 0.8)), -1, cv2.LINE_AA)
    return np.asarray(
        image * (1 - cv2.GaussianBlur(moles, (0, 0), 1.0)[..., None] * np.array([0.6, 0.8, 0.9]))
    )


def _wrinkles(maps: FaceMaps, age: float, rng: np.random.Generator) -> Array:
    """Relief [S, S] of forehead lines, crow's feet and nasolabial folds; deeper with age 0..1."""
    x, y, z = maps.position[..., 0], maps.position[..., 1], maps.position[..., 2]
    wobble = 0.25 * cloud(TEXTURE_SIZE, rng, 3, 0.6, 8)
    forehead = np.sin((y + wobble + 0.03 * x * x) * 5.2) * np.exp(-(((y - 8) / 1.6) ** 2) - (x / 4.5) ** 2)
    outer = np.exp(-(((np.abs(x) - 6.2) / 0.65) ** 2) - ((y - 3.4) / 1.1) ** 2)
    crow = np.sin((y + wobble + 0.35 * (np.abs(x) - 5) * np.sign(y - 3.4)) * 9) * outer
    fold_x = np.interp(y, [-4.2, -2.0, 0.2], [3.3, 2.9, 1.9])
    fold = -2.5 * np.exp(-(((np.abs(x) - fold_x) / 0.16) ** 2)) * (y < 0.2) * (y > -4.2) * (z > 7)
    return np.asarray(age * (forehead + crow + fold), np.float32)


def paint_skin(
    model: FaceModel, darkness: float, stubble: float, freckles: float, age: float, rng: np.random.Generator
) -> Skin:
    """Paint a person's skin; darkness, stubble, freckles and age are 0..1."""
    maps, size = face_maps(model), TEXTURE_SIZE
    tone = skin_tone(darkness) * (1 + rng.normal(size=3) * [0.03, 0.02, 0.04])
    mottle, pores, broad = (
        cloud(size, rng, 7, 0.6, 8),
        cloud(size, rng, 3, 0.8, 256),
        cloud(size, rng, 3, 0.7, 6),
    )
    hair = HAIR_COLOURS[rng.integers(8) if darkness < 0.4 else rng.choice([0, 0, 1, 2])]
    if rng.uniform() < 1.3 * age - 0.45:
        hair = HAIR_COLOURS[rng.choice([8, 9])]
    red = _flush(maps, rng, broad) + 0.05 * mottle
    image = tone * (1 + red[..., None] * np.array([0.22, -0.22, -0.16]) * (1 - 0.5 * darkness))
    image = image * (1 + 0.035 * mottle + 0.03 * pores)[..., None]
    folds = _wrinkles(maps, age, rng)
    image = image * (1 + 0.05 * np.clip(folds, -2, 0.5))[..., None]
    makeup = 0.02 if stubble > 0 else 0.3
    image = _paint_lids(image, maps, makeup, rng)
    image = _paint_lips(image, maps, tone, makeup, rng)
    if stubble > 0:
        image = _paint_stubble(image, maps, hair, stubble, rng)
    image = _paint_spots(image, maps, freckles, rng)
    image = _over(image, np.minimum(hair * rng.uniform(0.4, 0.9), 0.5 * tone), _brow_strokes(maps, rng))
    head = tone * 0.97 * (1 + 0.03 * cloud(size // 2, rng, 6, 0.6, 8))[..., None]
    bump = pores * 0.5 + 0.3 * cloud(size, rng, 2, 0.8, 128) + 2.4 * folds
    return Skin(
        np.clip(image, 0, 1).astype(np.float32),
        np.clip(head, 0, 1).astype(np.float32),
        bump.astype(np.float32),
        tone.astype(np.float32),
        darkness,
        hair,
    )

"""Clothes: a torso fitted to the neck, painted garments and collars.

The torso is a stack of rounded rings with one texture. The lowest eighth of that texture is a swatch for
collars. Lengths in cm, head frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.studio.albedo import cloud
from vivant.studio.geometry import Outfit, Piece, solid_grid
from vivant.studio.parts import Part

Array = NDArray[Any]

CLOTH_SIZE = 512
SWATCH = 0.125
NECK_CENTRE_Z = -1.2
NECK_TOP_Y, NECK_BOTTOM_Y = -9.0, -11.6

# Height, half width, half depth and centre z of the torso rings below the neck.
_TORSO_RINGS = np.array([
    [-12.6, 8.2, 7.2, -1.5], [-13.9, 10.6, 8.2, -2.1], [-15.4, 14.4, 9.2, -2.6], [-17.2, 18.2, 10.2, -3.0],
    [-20.5, 21.8, 11.0, -3.0], [-26.0, 23.0, 11.6, -2.8], [-50.0, 22.0, 12.5, -2.5]])  # fmt: skip


class Garment(Enum):
    """What is worn above the waist."""

    TEE = "tee"
    V_NECK = "v_neck"
    SCOOP = "scoop"
    SHIRT = "shirt"
    JACKET = "jacket"
    TURTLENECK = "turtleneck"
    HOODIE = "hoodie"


@dataclass(frozen=True)
class Clothes:
    """A garment, its colours (linear light) and the body under it."""

    garment: Garment
    colours: Array
    """[3, 3] main, second, accent."""
    pattern: str
    """plain, stripes, checks, dots, heather or print."""
    shoulder_scale: float
    neck_half_width: float
    neck_half_depth: float
    opening_cm: float
    """Depth of the neckline below the neck."""
    seed: int


def fit_neck(shape: Array, generic: Array, head_neck: Array, clothes: Clothes) -> Array:
    """Pull the flaring neck of a head [V, 3] into an ellipse that fits under the collar.

    generic are the model's neutral vertices, head_neck [V] marks the part that has the neck.
    """
    fade = np.clip((NECK_TOP_Y - generic[:, 1]) / (NECK_TOP_Y - NECK_BOTTOM_Y), 0, 1)
    fade = np.where(head_neck, fade * fade * (3 - 2 * fade), 0)
    x, z = shape[:, 0], shape[:, 2] - NECK_CENTRE_Z
    reach = np.hypot(x / clothes.neck_half_width, z / clothes.neck_half_depth)
    scale = 1 + (1 / np.maximum(reach, 1) - 1) * fade
    return np.stack([x * scale, shape[:, 1], z * scale + NECK_CENTRE_Z], 1).astype(np.float32)


def _ring(
    half_width: Array | float, half_depth: Array | float, centre_z: Array | float, angle: Array
) -> Array:
    """Rounded rectangle-like outline [.., 2] (x, z); angle 0 is the subject's left, pi/2 the front."""
    power = 0.85
    x = half_width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    z = centre_z + half_depth * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    return np.stack([x, z], -1)


def torso_grid(clothes: Clothes) -> Array:
    """Vertices [rows, columns, 3] of the torso; the front is in the middle columns."""
    columns, rows = 97, 40
    angle = np.linspace(-np.pi / 2, 1.5 * np.pi, columns)
    top = np.array([[-11.6, clothes.neck_half_width + 0.1, clothes.neck_half_depth + 0.1, NECK_CENTRE_Z]])
    rings = np.concatenate([top, _TORSO_RINGS])
    wide = np.clip((-14 - rings[:, 0]) / 4, 0, 1)
    rings[:, 1] *= 1 + (clothes.shoulder_scale - 1) * wide
    knots = np.linspace(0, 1, len(rings))
    fine = np.linspace(0, 1, rows)
    y, a, b, zc = (np.interp(fine, knots, rings[:, i])[:, None] for i in range(4))
    outline = _ring(a, b, zc, angle[None])
    dip = -1.6 * np.clip(np.sin(angle), 0, 1)[None] * np.clip((y + 16) / 2, 0, 1)
    grid = np.stack([outline[..., 0], y + dip, outline[..., 1]], -1)
    return np.asarray(cv2.GaussianBlur(grid.astype(np.float32), (0, 0), 0.8, borderType=cv2.BORDER_REPLICATE))


def _pattern(clothes: Clothes, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Colour [S, S, 3] of the main fabric at body places (x, y) in cm."""
    main, second, _ = clothes.colours
    share: Array
    if clothes.pattern == "stripes":
        width = rng.uniform(1.2, 5)
        share = ((y / width) % 1 < rng.uniform(0.3, 0.6)).astype(np.float32)
    elif clothes.pattern == "checks":
        width = rng.uniform(1.5, 5)
        share = 0.5 * ((x / width) % 1 < 0.4) + 0.5 * ((y / width) % 1 < 0.4)
    elif clothes.pattern == "dots":
        width = rng.uniform(1.5, 3.5)
        share = ((((x / width) % 1 - 0.5) ** 2 + ((y / width) % 1 - 0.5) ** 2) < 0.06).astype(np.float32)
    elif clothes.pattern == "heather":
        share = np.clip(0.5 + 0.4 * cloud(CLOTH_SIZE, rng, 3, 0.9, 128), 0, 1)
    elif clothes.pattern == "print":
        printed = np.exp(-(((x - rng.uniform(-3, 3)) / 6) ** 2) - ((y + rng.uniform(23, 29)) / 4) ** 2) > 0.4
        share = (printed & (cloud(CLOTH_SIZE, rng, 4, 0.7, 12) > 0)).astype(np.float32)
    else:
        share = np.zeros_like(x)
    return np.asarray(main + (second - main) * share[..., None], np.float32)


def _folds(rng: np.random.Generator) -> Array:
    """Brightness [S, S] of cloth folds and weave."""
    size = CLOTH_SIZE
    broad = cv2.resize(cloud(size, rng, 3, 0.6, 6), (size, size))
    return np.asarray(np.clip(1 + 0.13 * broad + 0.05 * cloud(size, rng, 2, 0.9, 200), 0.5, 1.5), np.float32)


def _blend(image: Array, colour: Array, mask: Array) -> Array:
    return np.asarray(image * (1 - mask[..., None]) + np.asarray(colour, np.float32) * mask[..., None])


def _soft(distance: Array, width: float = 0.15) -> Array:
    """1 where distance is negative, with an edge of `width` cm."""
    return np.asarray(1 / (1 + np.exp(np.clip(distance / width, -30, 30))), np.float32)


def paint_cloth(clothes: Clothes, grid: Array, skin: Array) -> Array:
    """Texture [S, S, 3] of torso and collar swatch; skin [3] shows above the neckline."""
    rng = np.random.default_rng(clothes.seed)
    size = CLOTH_SIZE
    torso_rows = int(size * (1 - SWATCH))
    place = cv2.resize(grid, (size, torso_rows), interpolation=cv2.INTER_LINEAR)
    place = np.concatenate([place, np.repeat(place[-1:], size - torso_rows, 0)])
    x, y, front = place[..., 0], place[..., 1], (place[..., 2] > -2).astype(np.float32)
    main, second, accent = clothes.colours
    image = _pattern(clothes, x, y, rng)
    neck = -12.3 - 1.3 * front
    if clothes.garment is Garment.JACKET:
        inner = np.clip(second * 0.4 + 0.5, 0, 0.8) if rng.uniform() < 0.6 else second
        opening = np.abs(x) - np.clip((y + 14 + 1.6 * clothes.opening_cm) * 0.45, 0, 9)
        lapel = _soft(np.abs(opening - 1.4) - 1.4) * _soft(-(y + 34)) * front
        image = _blend(image, main * 0.75, lapel)
        image = _blend(image, main * 0.25, _soft(np.abs(opening - 2.8) - 0.12, 0.06) * front * (y > -34))
        image = _blend(image, inner, _soft(opening) * front)
        if rng.uniform() < 0.5:
            tie = _soft(np.abs(x) - 1.0 - 0.05 * np.clip(-y - 15, 0, 30)) * front
            image = _blend(image, accent, tie * _soft(opening))
        image = _blend(image, main * 0.2, _soft(np.abs(opening) - 0.12, 0.06) * front)
    elif clothes.garment in (Garment.SHIRT, Garment.HOODIE):
        image = _blend(image, main * 0.55, _soft(np.abs(np.abs(x - 0.3) - 1.4) - 0.06, 0.05) * front)
        spacing = 4.0 if clothes.garment is Garment.SHIRT else 1.0
        button = (x - 0.3) ** 2 + (((y + 16) % spacing) - spacing / 2) ** 2 * (0.25 if spacing < 2 else 1)
        image = _blend(image, accent, _soft(button - 0.12, 0.04) * front)
    line: Array
    if clothes.garment in (Garment.V_NECK, Garment.SHIRT):
        line = y - (neck - clothes.opening_cm + np.abs(x) * clothes.opening_cm / 5.5)
    elif clothes.garment is Garment.SCOOP:
        line = y - (-14.2 - clothes.opening_cm * np.exp(-((x / 7) ** 2)) * front - 0.6 * (1 - front))
    else:
        line = y - neck
    hem = np.abs(line) - (0.8 if clothes.garment is Garment.TEE else 0.15)
    image = _blend(image, accent if clothes.garment is Garment.TEE else main * 0.5, _soft(hem))
    image = _blend(image * _folds(rng)[..., None], skin, _soft(-line))
    swatch = second if clothes.garment is Garment.JACKET and rng.uniform() < 0.5 else main
    weave = 1 + 0.12 * cloud(size, rng, 3, 0.9, 96)[torso_rows:]
    ribs = 1 + 0.12 * np.sin(np.arange(size) * 0.8)[None] if clothes.garment is Garment.TURTLENECK else 1.0
    image[torso_rows:] = swatch * (weave * ribs)[..., None]
    return np.clip(image, 0, 1).astype(np.float32)


def _collar(clothes: Clothes, rng: np.random.Generator) -> Piece | None:
    """A band around the neck; shirts and jackets leave it open in front."""
    kind = clothes.garment
    heights = {Garment.TURTLENECK: 3.2, Garment.SHIRT: 2.5, Garment.JACKET: 2.3, Garment.HOODIE: 2.2}
    if kind not in heights:
        return None
    is_open = kind in (Garment.SHIRT, Garment.JACKET)
    gap = rng.uniform(0.15, 0.35) if is_open else 0.0
    columns, rows = 73, 9
    angle = np.linspace(np.pi / 2 + gap, 2.5 * np.pi - gap, columns)[None].repeat(rows, 0)
    up = np.linspace(0, 1, rows)[:, None].repeat(columns, 1)
    fat = 1.1 if kind is Garment.HOODIE else 0.35
    # Up the inner side of the band and, folded over, down the outer side.
    rise = np.where(up < 0.4, up / 0.4, 1 - (up - 0.4) / 0.6 * (1.25 if is_open else 1.0))
    off = 0.25 + fat * np.sin(up * np.pi / 2) + 0.9 * np.clip(up - 0.4, 0, 1)
    front = np.clip(np.sin(angle), 0, 1)
    height = heights[kind] * rng.uniform(0.85, 1.15)
    outline = _ring(clothes.neck_half_width + off, clothes.neck_half_depth + off, NECK_CENTRE_Z, angle)
    y = (-12.1 if is_open else -12.6) - 1.6 * front + rise * height
    point = np.exp(-(((np.abs(angle - 1.5 * np.pi) - np.pi + gap) / 0.3) ** 2)) if is_open else 0.0
    y = y - 2.2 * point * np.clip((up - 0.4) / 0.6, 0, 1)
    grid = np.stack([outline[..., 0], y, outline[..., 1]], -1)
    uv = np.stack([(angle - angle.min()) / (2 * np.pi), SWATCH * (0.15 + 0.7 * up)], -1)
    return solid_grid(Part.CLOTHES, grid, uv, 0.15 * rise.ravel(), np.array([0, -12.5, NECK_CENTRE_Z]))


def add_clothes(outfit: Outfit, clothes: Clothes) -> Array:
    """Add torso and collar; returns the torso grid for `paint_cloth`."""
    rng = np.random.default_rng(clothes.seed + 1)
    grid = torso_grid(clothes)
    rows, columns = grid.shape[:2]
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(1, SWATCH, rows))
    outfit.pieces.append(
        solid_grid(Part.CLOTHES, grid, np.stack([u, v], -1), 0.0, np.array([0, -30.0, -2.0]))
    )
    collar = _collar(clothes, rng)
    if collar is not None:
        outfit.pieces.append(collar)
    return grid


def sample_clothes(rng: np.random.Generator) -> Clothes:
    """Random clothes."""
    colours = rng.uniform(0.02, 0.6, (3, 3))
    grey = colours.mean(1, keepdims=True)
    colours = grey + (colours - grey) * rng.uniform(0.1, 1.1, (3, 1))
    if rng.uniform() < 0.35:
        colours[0] *= 0.25
    if rng.uniform() < 0.2:
        colours[0] = rng.uniform(0.6, 0.85)
    width = rng.uniform(5.7, 6.7)
    pattern = str(rng.choice(["plain", "plain", "plain", "stripes", "checks", "dots", "heather", "print"]))
    return Clothes(
        list(Garment)[rng.integers(len(Garment))],
        np.clip(colours, 0.01, 0.85).astype(np.float32),
        pattern,
        rng.uniform(0.82, 1.06),
        width,
        width * rng.uniform(0.86, 0.95),
        rng.uniform(1.0, 7.0),
        int(rng.integers(2**31)),
    )

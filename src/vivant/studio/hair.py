"""Hair: shells over the scalp, hanging sheets for long hair, and beards.

Shells are copies of the scalp pushed outward; each layer keeps only the samples whose strand noise is above a
threshold that rises with the layer, which reads as strands. Long hair hangs in sheets fitted to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.studio.albedo import beard_area
from vivant.studio.face_model import FaceModel
from vivant.studio.geometry import Outfit, Piece, Shell, grid_triangles, outward
from vivant.studio.parts import Part

Array = NDArray[Any]

HEAD_CENTRE = np.array([0.0, 2.5, -1.5], np.float32)
_CROWN = np.array([0.0, 0.80, -0.60])
_AZIMUTHS, _ELEVATIONS = 72, 48


@dataclass(frozen=True)
class HairStyle:
    """A haircut; lengths in cm."""

    hairline: float
    """Height of the front hairline as an angle over the forehead; 0.45 is a fringe, 1.2 a receding line."""
    top_cm: float
    side_cm: float
    layers: int
    droop: float
    """Share of the length that hangs down."""
    curl: float
    """0 straight .. 1 tight curls."""
    wave: float
    """Unevenness of the length, 0..0.5."""
    long_cm: float
    """How far hanging hair reaches below the ears; 0 for none."""
    open_degrees: float
    """How far hanging hair reaches round to the face; 90 stops at the ears."""
    ragged: float
    """Unevenness of the hairline, 0..1."""
    parting_cm: float
    """Where the hair parts, from the middle to the left; 99 for no parting."""
    seed: int


def hair_mask(position: Array, hairline: float, ragged: float, rng: np.random.Generator) -> Array:
    """Hair density [V], 0..1, over generic head positions [V, 3]."""
    x, y, z = np.abs(position[:, 0]), position[:, 1], position[:, 2]
    angle = np.arctan2(y - 1.5, z - 0.5)
    angle = np.where(angle < -2.2, angle + 2 * np.pi, angle)
    phase = rng.uniform(0, 6.3, 3)
    jitter = sum(np.sin(position[:, 0] * rate + p) for rate, p in zip((1.3, 2.9, 5.1), phase, strict=True))
    line = hairline + 0.10 * np.clip((x - 3) / 4, 0, 1) + 0.03 * ragged * jitter
    front = (angle - line) * 9
    temple = np.minimum((2.4 - z) * 0.8 + np.clip((y - 4) * 0.35, -0.2, 3), (y + 0.2) * 0.8)
    sides = np.where(x > 6.3, temple, 9.0)
    nape = (3.72 - angle) * 4
    mask = np.clip(np.minimum(np.minimum(front, sides), nape), 0, 1)
    ear = (x > 7.7) & (z > -3.2) & (z < 1.2) & (y < 4.4)
    return np.where(ear, 0, mask).astype(np.float32)


def _strand_places(position: Array, curl: float) -> Array:
    """(across, along) [V, 2] of strands that radiate from the crown."""
    direction = position - HEAD_CENTRE
    direction = direction / (np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9)
    forward = np.array([0.0, 0.60, 0.80])
    polar = np.arccos(np.clip(direction @ _CROWN, -1, 1))
    azimuth = np.arctan2(direction[:, 0], direction @ forward)
    across = azimuth * (0.25 * (1 - curl) + 0.06 * curl) + 0.03 * (1 - curl) * np.sin(polar * 5)
    along = polar * (0.5 * (1 - curl) + 1.6 * curl)
    return np.stack([across + 10, along + 10], 1).astype(np.float32)


def _submesh(model: FaceModel, mask: Array) -> tuple[Array, Array]:
    """Vertices and re-numbered triangles of the skin where the mask is above zero."""
    skin = model.triangles[np.isin(model.triangle_part, (0, 1))]
    kept = skin[(mask[skin] > 0.02).any(1)]
    source, local = np.unique(kept, return_inverse=True)
    return source, local.reshape(-1, 3).astype(np.int32)


def _shells(
    part: Part,
    model: FaceModel,
    mask: Array,
    length: Array,
    layers: int,
    droop: float,
    strand: Array,
) -> list[Shell]:
    source, triangles = _submesh(model, mask)
    if len(source) == 0:
        return []
    grown = np.clip(mask / 0.6, 0, 1)
    grown = grown * grown * (3 - 2 * grown)
    shells = []
    for layer in range(layers):
        depth = (layer + 0.5) / layers
        height = (length * grown * depth)[source]
        shells.append(
            Shell(
                part,
                source,
                triangles,
                height.astype(np.float32),
                (droop * height * depth).astype(np.float32),
                strand[source],
                mask[source],
                np.full(len(source), 0.35 * depth, np.float32),
                0.02 + 0.60 * depth**1.4,
                depth,
                casts_shadow=layer == layers // 2,
            )
        )
    return shells[::-1]  # outermost first: what it hides is rejected before its noise is looked up


def scalp_shells(model: FaceModel, style: HairStyle, rng: np.random.Generator) -> list[Shell]:
    """Layers of hair on the scalp."""
    position = model.neutral
    mask = hair_mask(position, style.hairline, style.ragged, rng) * (model.vertex_part < 2)
    x, y, z = position.T
    on_top = np.clip((y - 5.5) / 4, 0, 1)
    length = style.side_cm * (1 - on_top) + style.top_cm * on_top
    if abs(style.parting_cm) < 9:
        furrow = np.exp(-(((x - style.parting_cm) / 0.45) ** 2)) * np.clip((z + 4) / 3, 0, 1)
        length = length * (1 - 0.6 * furrow) * (1 + 0.25 * np.tanh((style.parting_cm - x) / 2))
    rate = rng.uniform(0.4, 1.6)
    length = length * (1 - style.wave + style.wave * np.sin(x * rate + z * 0.7 * rate + rng.uniform(0, 6)))
    return _shells(
        Part.HAIR, model, mask, length, style.layers, style.droop, _strand_places(position, style.curl)
    )


def beard_shells(model: FaceModel, length_cm: float, reach: float, rng: np.random.Generator) -> list[Shell]:
    """Layers of beard; reach 0 is a moustache and goatee, 1 a full beard."""
    position = model.neutral
    mask = beard_area(position)
    width = 2.6 + 7.0 * reach
    mask = mask * np.clip((width - np.abs(position[:, 0])) / 1.0, 0, 1)
    mask = mask * (model.vertex_part == 0) * np.clip((model.mouth_ring.astype(np.float32) - 14.0) / 3.0, 0, 1)
    chin = np.clip((-4.5 - position[:, 1]) / 3, 0, 1)
    length = length_cm * (0.45 + 0.55 * chin) * rng.uniform(0.9, 1.1)
    strand = np.stack([position[:, 0] * 0.045 + 10, position[:, 1] * 0.06 + position[:, 2] * 0.03 + 10], 1)
    return _shells(Part.BEARD, model, mask, length, 6, 0.5, strand.astype(np.float32))


def is_ear(position: Array) -> Array:
    """[V] which generic positions belong to the outer ears."""
    return (
        (np.abs(position[:, 0]) > 7.3)
        & (position[:, 2] > -3.6)
        & (position[:, 2] < 1.6)
        & (position[:, 1] < 4.6)
    )


def head_radius(shape: Array, model: FaceModel) -> Array:
    """Distance of the head without ears from HEAD_CENTRE over azimuth (0 back, to the left) and elevation.

    Returns [_ELEVATIONS, _AZIMUTHS]; elevation runs from straight up to straight down.
    """
    offset = shape[(model.vertex_part < 2) & ~is_ear(model.neutral)] - HEAD_CENTRE
    radius = np.linalg.norm(offset, axis=1)
    azimuth = np.arctan2(offset[:, 0], -offset[:, 2])
    elevation = np.arccos(np.clip(offset[:, 1] / radius, -1, 1))
    column = np.clip(((azimuth / (2 * np.pi) + 0.5) * _AZIMUTHS).astype(int), 0, _AZIMUTHS - 1)
    row = np.clip((elevation / np.pi * _ELEVATIONS).astype(int), 0, _ELEVATIONS - 1)
    radius_map = np.zeros((_ELEVATIONS, _AZIMUTHS), np.float32)
    np.maximum.at(radius_map, (row, column), radius.astype(np.float32))
    filled = (radius_map > 0).astype(np.float32)
    wrapped = np.concatenate([radius_map, radius_map, radius_map], 1)
    weight = np.concatenate([filled, filled, filled], 1)
    smooth = cv2.GaussianBlur(wrapped, (0, 0), 1.5) / (cv2.GaussianBlur(weight, (0, 0), 1.5) + 1e-6)
    return np.asarray(smooth[:, _AZIMUTHS : 2 * _AZIMUTHS])


def radius_at(radius_map: Array, azimuth: Array, elevation: Array) -> Array:
    """Look up a `head_radius` map; angles in radians, elevation from straight up."""
    row = np.clip((elevation / np.pi * _ELEVATIONS).astype(int), 0, _ELEVATIONS - 1)
    column = np.clip(((azimuth / (2 * np.pi) + 0.5) * _AZIMUTHS).astype(int), 0, _AZIMUTHS - 1)
    return np.asarray(radius_map[row, column], np.float32)


def _head_reach(radius_map: Array, azimuth: Array, height: Array) -> Array:
    """Horizontal distance of the head's surface from the vertical axis through HEAD_CENTRE."""
    reach = np.full(azimuth.shape, 7.0)
    for _ in range(4):  # fixed point of: elevation -> radius -> horizontal distance
        elevation = np.arctan2(reach, height - HEAD_CENTRE[1])
        radius = radius_at(radius_map, azimuth, elevation)
        reach = 0.5 * reach + 0.5 * np.sqrt(np.clip(radius**2 - (height - HEAD_CENTRE[1]) ** 2, 9.0, None))
    return np.asarray(cv2.GaussianBlur(reach.astype(np.float32), (0, 0), 2.0))


def hanging_sheets(shape: Array, model: FaceModel, style: HairStyle, rng: np.random.Generator) -> list[Piece]:
    """Long hair: nested sheets that lie on the scalp above and hang freely below."""
    columns, rows = 72, 34
    extent = np.radians(style.open_degrees)
    azimuth = np.linspace(-extent, extent, columns)[None].repeat(rows, 0)
    down = np.linspace(0, 1, rows)[:, None].repeat(columns, 1)
    top, bottom = 8.2, -style.long_cm
    height = top + (bottom - top) * down
    on_head = _head_reach(head_radius(shape, model), azimuth, np.maximum(height, -2.0))
    widest = np.maximum.accumulate(on_head, axis=0)
    flare = rng.uniform(-0.10, 0.18)
    hanging = widest * (1 + flare * np.clip((2 - height) / 20, 0, 1))
    free = np.clip((4.0 - height) / 6, 0, 1)
    wave = rng.uniform(0.0, 0.5) * np.sin(height * rng.uniform(0.5, 1.3) + azimuth * rng.uniform(2, 9)) * free
    inward = np.clip(np.abs(azimuth) / extent - 0.75, 0, 0.25) * 4
    edge = 1 - np.clip((np.abs(azimuth) / extent - 0.9) / 0.1, 0, 1)
    tips = np.clip((1 - down) / 0.12, 0.25, 1) * np.clip(down / 0.1, 0, 1)
    pieces = []
    for layer, depth in enumerate((0.3, 0.65, 1.0)):
        off = (style.side_cm * (0.35 + 0.65 * depth) + 0.3 * layer) * (0.35 + 0.65 * np.clip(down * 4, 0, 1))
        off = off + 0.7 * depth * free
        reach = on_head * (1 - free) + hanging * free + off + wave - 0.8 * inward * free
        grid = np.stack(
            [np.sin(azimuth) * reach, height + 0 * reach, HEAD_CENTRE[2] - np.cos(azimuth) * reach], -1
        )
        vertices = grid.reshape(-1, 3).astype(np.float32)
        scale = 0.25 * (1 - style.curl) + 0.1 * style.curl
        strand = np.stack(
            [
                (azimuth * scale + 0.01 * wave + layer * 0.37 + 10).ravel(),
                (height * 0.05 * (1 + 2 * style.curl) + 10).ravel(),
            ],
            1,
        )
        weight = np.clip((vertices[:, 1] + 24) / 18, 0, 1)
        density = (edge * 0.9 + 0.1) * tips
        pieces.append(
            Piece(
                Part.HAIR,
                vertices,
                outward(vertices, grid_triangles(rows, columns), HEAD_CENTRE),
                np.stack([azimuth.ravel(), (0.35 + 0.65 * down).ravel()], 1).astype(np.float32),
                (weight * weight * (3 - 2 * weight)).astype(np.float32),
                strand.astype(np.float32),
                density.ravel().astype(np.float32),
                0.10 + 0.32 * layer / 2,
                depth,
                casts_shadow=layer == 1,
            )
        )
    return pieces


def add_hair(outfit: Outfit, model: FaceModel, shape: Array, style: HairStyle) -> None:
    """Grow the style's shells and sheets on a head of this shape [V, 3]."""
    rng = np.random.default_rng(style.seed)
    outfit.shells += scalp_shells(model, style, rng)
    if style.long_cm > 0:
        outfit.pieces += hanging_sheets(shape, model, style, rng)


def add_lashes(outfit: Outfit, model: FaceModel, eye_centres: Array, length_cm: float) -> None:
    """Upper lashes: a ragged strip along each upper lid that grows away from the eyeball."""
    for side, contour in enumerate(model.eyelids):
        upper = contour[1 : len(contour) // 2 + 1]
        count = len(upper)
        source = np.concatenate([upper, upper])
        height = np.concatenate([np.zeros(count), np.full(count, length_cm)]).astype(np.float32)
        across = np.linspace(0, 0.02, count)
        strand = np.stack([np.tile(across, 2) + 10 + side, np.repeat([10.0, 10.01], count)], 1)
        triangles = grid_triangles(2, count)
        density = np.repeat([0.8, 0.25], count)
        origin = np.repeat(eye_centres[side][None], 2 * count, 0)
        origin[count:, 1] -= 0.5
        outfit.shells.append(
            Shell(
                Part.LASHES,
                source,
                triangles,
                height,
                np.zeros(2 * count, np.float32),
                strand.astype(np.float32),
                density.astype(np.float32),
                np.zeros(2 * count, np.float32),
                0.12,
                1.0,
                grows_from=origin.astype(np.float32),
            )
        )

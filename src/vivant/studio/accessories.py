"""Glasses, hats, hair buns and earrings, fitted to a head. Lengths in cm, head frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.studio.albedo import cloud
from vivant.studio.face_model import FaceModel
from vivant.studio.geometry import Lens, Outfit, Piece, solid_grid, tube
from vivant.studio.hair import HEAD_CENTRE, head_radius, is_ear, radius_at
from vivant.studio.parts import Part

Array = NDArray[Any]

HAT_SIZE = 256
_NO_UV = (0.5, 0.5)
DARK_LENS = 0.35
"""Lenses that let less than this share of the light through are drawn as solid."""


@dataclass(frozen=True)
class Glasses:
    """A pair of glasses."""

    half_width: float
    half_height: float
    squareness: float
    """2 is an ellipse, 5 nearly a rectangle."""
    wire: float
    """Radius of the rim."""
    transmission: Array
    """[3] share of light that the lenses let through."""


@dataclass(frozen=True)
class Hat:
    """A knitted cap or, with a visor, a baseball cap."""

    has_visor: bool
    line_degrees: float
    """Elevation angle of the rim from straight up, at the sides."""
    tilt_degrees: float
    """How much higher the rim sits in front."""
    thickness: float
    colours: Array
    """[2, 3] linear light."""
    seed: int


def sample_glasses(rng: np.random.Generator) -> Glasses:
    """Random glasses; one in six are sunglasses or strongly tinted."""
    clear = np.array([0.93, 0.95, 0.95]) * rng.uniform(0.9, 1.0)
    tinted = rng.uniform(0.04, 0.7) * rng.uniform(0.7, 1.0, 3)
    return Glasses(rng.uniform(2.2, 2.9), rng.uniform(1.5, 2.4), float(rng.choice([2.0, 2.6, 4.0])),
                   rng.uniform(0.05, 0.22), clear if rng.uniform() < 0.84 else tinted)  # fmt: skip


def _rim(centre: Array, glasses: Glasses, front: float, side: float) -> Array:
    """Closed outline [n, 3] of one lens, wrapped slightly round the face."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    power = 2 / glasses.squareness
    x = centre[0] + glasses.half_width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = centre[1] - 0.35 + glasses.half_height * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    wrap = 0.045 * np.clip(side * x - 2.0, 0, None) ** 2
    return np.stack([x, y, front - wrap + 0 * x], 1)


def _lens(rim: Array, glasses: Glasses) -> Lens:
    rings = np.linspace(0, 1, 5)[:, None, None]
    middle = rim.mean(0) + np.array([0, 0, 0.25])
    closed = np.concatenate([rim, rim[:1]])
    bulge = np.array([0, 0, 0.25]) * (1 - rings**2) - np.array([0, 0, 0.25]) * (1 - rings)
    grid = middle * (1 - rings) + closed * rings + bulge
    piece = solid_grid(Part.GLASSES, grid, np.zeros((*grid.shape[:2], 2)), 1.0, middle - [0, 0, 10])
    return Lens(piece, np.asarray(glasses.transmission, np.float64))


def add_glasses(outfit: Outfit, model: FaceModel, shape: Array, glasses: Glasses) -> None:
    """Put glasses on the nose: two rims, bridge, temples and lenses."""
    rims = []
    for side, contour in ((1.0, model.eyelids[0]), (-1.0, model.eyelids[1])):
        centre = shape[contour].mean(0)
        skin = shape[model.vertex_part == 0]
        near = np.abs(skin[:, :2] - centre[:2]) < [glasses.half_width * 0.8, glasses.half_height * 0.8]
        front = float(skin[near.all(1), 2].max()) + 0.45
        rims.append(_rim(centre, glasses, front, side))
    for rim in rims:
        outfit.pieces.append(tube(Part.GLASSES, rim, np.full(len(rim), glasses.wire), 6, _NO_UV, closed=True))
        lens = _lens(rim, glasses)
        if glasses.transmission.max() < DARK_LENS:
            outfit.pieces.append(lens.piece)
        else:
            outfit.lenses.append(lens)
    left, right = (rim[np.argmin(np.abs(rim[:, 0]))] for rim in rims)
    share = np.linspace(0, 1, 7)[:, None]
    bridge = left * (1 - share) + right * share + np.array([0, 0.35, 0.35]) * np.sin(np.pi * share)
    outfit.pieces.append(tube(Part.GLASSES, bridge, np.full(7, glasses.wire * 1.1), 6, _NO_UV, closed=False))
    ears = shape[is_ear(model.neutral) & (model.vertex_part < 2)]
    for rim, side in zip(rims, (1.0, -1.0), strict=True):
        hinge = rim[np.argmax(side * rim[:, 0] + 0.4 * rim[:, 1])]
        ear = ears[ears[:, 0] * side > 0]
        hook = np.array([side * (np.abs(ear[:, 0]).min() + 0.35), ear[:, 1].max() - 0.5, ear[:, 2].mean()])
        temple = hinge * (1 - share) + hook * share
        bulge = np.sin(np.pi * share[:, 0])
        temple[:, 0] += side * 0.35 * bulge
        outfit.pieces.append(
            tube(Part.GLASSES, temple, np.full(7, max(0.08, glasses.wire)), 6, _NO_UV, False)
        )


def sample_hat(rng: np.random.Generator) -> Hat:
    """A random hat."""
    colours = rng.uniform(0.02, 0.5, (2, 3))
    grey = colours.mean(1, keepdims=True)
    colours = grey + (colours - grey) * rng.uniform(0.2, 1.0)
    has_visor = bool(rng.uniform() < 0.4)
    return Hat(has_visor, rng.uniform(68, 80), rng.uniform(6, 20), rng.uniform(0.5, 1.1), colours,
               int(rng.integers(2**31)))  # fmt: skip


def rim_elevation(hat: Hat, azimuth: Array) -> Array:
    """Angle of the rim from straight up over azimuth (0 back)."""
    return np.radians(hat.line_degrees + hat.tilt_degrees * np.cos(azimuth))


def _dome(hat: Hat, radius_map: Array, offset: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Vertices [rows, columns, 3] of the crown and their rim share [rows, columns], 0 top .. 1 rim."""
    rows, columns = 26, 73
    share = np.linspace(0, 1, rows)[:, None].repeat(columns, 1)
    azimuth = np.linspace(-np.pi, np.pi, columns)[None].repeat(rows, 0)
    elevation = share * rim_elevation(hat, azimuth)
    radius = radius_at(radius_map, azimuth, elevation)
    radius = cv2.GaussianBlur(radius, (0, 0), 2.5, borderType=cv2.BORDER_REPLICATE)
    radius[:, -1] = radius[:, 0]
    radius = radius + offset(share)
    flat = radius * np.sin(elevation)
    grid = np.stack([np.sin(azimuth) * flat, radius * np.cos(elevation), -np.cos(azimuth) * flat], -1)
    return grid + HEAD_CENTRE, share


def add_hat(outfit: Outfit, model: FaceModel, shape: Array, hat: Hat) -> None:
    """Put a hat on; hair under it must be flattened with `flatten_under_hat`."""
    rng = np.random.default_rng(hat.seed)
    radius_map = head_radius(shape, model)
    peak = 0.0 if hat.has_visor else rng.uniform(0, 2.0)

    def crown(share: Array) -> Array:
        return np.asarray(
            0.35 + hat.thickness * np.sqrt(np.clip(1 - share**6, 0, 1)) + peak * (1 - share) ** 2
        )

    grid, share = _dome(hat, radius_map, crown)
    columns = share.shape[1]
    u = np.linspace(0, 1, columns)[None].repeat(len(share), 0)
    outfit.pieces.append(solid_grid(Part.HAT, grid, np.stack([u, 1 - 0.8 * share], -1), 1.0, HEAD_CENTRE))
    if hat.has_visor:
        outfit.pieces.append(_visor(grid[-1]))
        return

    def cuff(share: Array) -> Array:
        return np.asarray(0.2 + (hat.thickness + 0.5) * np.sin(np.pi * np.clip(share * 4 - 3, 0, 1)) ** 0.5)

    grid, share = _dome(hat, radius_map, cuff)
    low = share[:, 0] >= 0.74
    grid, share = grid[low], share[low]
    uv = np.stack([u[low], 0.2 * (1 - (share - 0.74) / 0.26)], -1)
    outfit.pieces.append(solid_grid(Part.HAT, grid, uv, 1.0, HEAD_CENTRE))


def _visor(rim: Array) -> Piece:
    """A curved peak in front of the rim [columns, 3]."""
    columns = len(rim)
    azimuth = np.linspace(-np.pi, np.pi, columns)
    front = np.flatnonzero(np.abs(azimuth) > np.pi * 0.66)
    order = np.concatenate([front[azimuth[front] > 0], front[azimuth[front] < 0][1:]])
    root = rim[order]
    swing = np.sin(np.linspace(0, np.pi, len(order)))[:, None]
    tip = root + np.array([0, -1.3, 6.5]) * swing**0.7
    tip[:, 1] -= 0.05 * root[:, 0] ** 2 * swing[:, 0]
    share = np.linspace(0, 1, 6)[:, None, None]
    top = root * (1 - share) + tip * share
    grid = np.concatenate([top, top[::-1] - [0, 0.25, 0]])
    uv = np.broadcast_to(np.array([0.5, 0.1]), (*grid.shape[:2], 2))
    return solid_grid(Part.HAT, grid, uv, 1.0, grid.reshape(-1, 3).mean(0))


def flatten_under_hat(outfit: Outfit, model: FaceModel, hat: Hat) -> None:
    """Press the hair shells flat where the hat covers them."""
    offset = model.neutral - HEAD_CENTRE
    radius = np.linalg.norm(offset, axis=1)
    elevation = np.arccos(np.clip(offset[:, 1] / radius, -1, 1))
    covered = elevation < rim_elevation(hat, np.arctan2(offset[:, 0], -offset[:, 2])) + 0.10
    outfit.shells = [
        replace(shell, height=np.where(covered[shell.source], np.minimum(shell.height, 0.1), shell.height))
        if shell.part is Part.HAIR
        else shell
        for shell in outfit.shells
    ]
    outfit.pieces = [
        _cut_above_rim(piece, hat) if piece.part is Part.HAIR else piece for piece in outfit.pieces
    ]


def _cut_above_rim(piece: Piece, hat: Hat) -> Piece:
    """Thin out the part of hanging hair that the hat covers."""
    offset = piece.vertices - HEAD_CENTRE
    elevation = np.arccos(np.clip(offset[:, 1] / np.linalg.norm(offset, axis=1), -1, 1))
    below = elevation > rim_elevation(hat, np.arctan2(offset[:, 0], -offset[:, 2])) - 0.05
    return replace(piece, density=(piece.density * below).astype(np.float32))


def paint_hat(hat: Hat) -> Array:
    """Texture [S, S, 3]: the lowest fifth is the cuff."""
    rng = np.random.default_rng(hat.seed + 1)
    size = HAT_SIZE
    v, u = np.mgrid[:size, :size].astype(np.float32) / size
    ribs = 0.0 if hat.has_visor else 0.18 * np.sin(u * 2 * np.pi * rng.integers(40, 90))
    share = (v > 0.8).astype(np.float32)
    if rng.uniform() < 0.35:
        share = np.maximum(share, ((v * rng.uniform(3, 9)) % 1 < 0.35).astype(np.float32))
    image = hat.colours[0] * (1 - share[..., None]) + hat.colours[1] * share[..., None]
    shade = 1 + ribs + 0.1 * cloud(size, rng, 4, 0.8, 16)
    return np.clip(image * shade[..., None], 0, 1).astype(np.float32)


def add_bun(outfit: Outfit, shape: Array, model: FaceModel, rng: np.random.Generator) -> None:
    """A bun or knot of hair behind the crown."""
    azimuth, elevation = 0.0, np.radians(rng.uniform(15, 75))
    radius = float(radius_at(head_radius(shape, model), np.array([azimuth]), np.array([elevation]))[0])
    size = rng.uniform(1.8, 3.6)
    direction = np.array([0.0, np.cos(elevation), -np.sin(elevation)])
    centre = HEAD_CENTRE + direction * (radius + 0.6 * size)
    theta, phi = np.meshgrid(np.linspace(0, np.pi, 20), np.linspace(0, 2 * np.pi, 31), indexing="ij")
    ball = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1)
    for depth in (0.6, 1.0):
        grid = centre + ball * size * (0.8 + 0.2 * depth)
        solid = solid_grid(Part.HAIR, grid, np.full((*grid.shape[:2], 2), 0.4), 1.0, centre)
        strand = np.stack([theta.ravel() * 0.3 + 10, phi.ravel() * 0.12 + 10], 1).astype(np.float32)
        outfit.pieces.append(replace(solid, strand=strand, density=np.ones(len(strand), np.float32),
                                     threshold=0.02 if depth < 1 else 0.3, depth=depth,
                                     casts_shadow=depth < 1))  # fmt: skip


def add_earrings(outfit: Outfit, shape: Array, model: FaceModel, rng: np.random.Generator) -> None:
    """A ring or stud under each ear lobe."""
    size, wire = rng.uniform(0.25, 1.4), rng.uniform(0.08, 0.16)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ear = np.flatnonzero(
        is_ear(model.neutral) & (model.vertex_part < 2) & (np.abs(model.neutral[:, 0]) > 7.5)
    )
    for side in (1.0, -1.0):
        lobe = shape[ear[shape[ear, 0] * side > 0]]
        hole = lobe[np.argmin(lobe[:, 1])] + [0.1 * side, 0.25, 0.0]
        ring = hole + np.stack([0 * angle, -size + size * np.cos(angle), size * np.sin(angle)], 1)
        outfit.pieces.append(tube(Part.JEWELLERY, ring, np.full(len(ring), wire), 6, _NO_UV, closed=True))

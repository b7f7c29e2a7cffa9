"""Pieces of geometry that dress a head, and how they are made from grids and merged.

A piece is rigid (it follows head and torso only); a shell is a copy of part of the face mesh pushed outward,
so it follows the expression too. Lengths in cm, the head frame of the face model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.studio.parts import Part
from vivant.studio.raster import OPAQUE, vertex_normals

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Piece:
    """A rigid mesh of n vertices and m triangles, counter-clockwise seen from outside."""

    part: Part
    vertices: Array
    """[n, 3]."""
    triangles: Array
    """[m, 3]."""
    vertex_uv: Array
    """[n, 2] texture place; for hair the second component runs from root 0 to tip 1."""
    head_weight: Array
    """[n] 1 follows the head, 0 the torso."""
    strand: Array
    """[n, 2] across and along the hair; unused otherwise."""
    density: Array
    """[n] hair density 0..1; unused otherwise."""
    threshold: float = float(OPAQUE)
    """Strand noise below which hair is left out; OPAQUE for solid pieces."""
    depth: float = 1.0
    """Layer of hair, 0 root .. 1 surface."""
    casts_shadow: bool = True

    def normals(self) -> Array:
        """Unit normals [n, 3]."""
        normals = np.zeros(self.vertices.shape, np.float32)
        vertex_normals(self.vertices.astype(np.float32), self.triangles, normals)
        return normals


@dataclass(frozen=True, eq=False)
class Shell:
    """A layer of hair grown from face-model vertices."""

    part: Part
    source: Array
    """[n] face-model vertices that it grows from."""
    triangles: Array
    """[m, 3] into source."""
    height: Array
    """[n] cm along the normal."""
    droop: Array
    """[n] cm downwards."""
    strand: Array
    density: Array
    along: Array
    """[n] place along the strand, 0 root .. 1 tip."""
    threshold: float
    depth: float
    casts_shadow: bool = False
    grows_from: Array | None = None
    """[n, 3] points to grow away from; None grows along the normals."""


@dataclass(frozen=True, eq=False)
class Lens:
    """Glass in front of things; it tints and reflects but is not part of the flow."""

    piece: Piece
    transmission: Array
    """[3] share of light let through."""


@dataclass
class Outfit:
    """Everything added to the bare head."""

    pieces: list[Piece] = field(default_factory=list)
    shells: list[Shell] = field(default_factory=list)
    lenses: list[Lens] = field(default_factory=list)


def grid_triangles(rows: int, columns: int) -> Array:
    """Triangles [2 (rows-1) (columns-1), 3] of a row-major vertex grid."""
    corner = np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)
    quads = [corner, corner + columns, corner + 1, corner + 1, corner + columns, corner + columns + 1]
    return np.stack(quads, -1).reshape(-1, 3).astype(np.int32)


def outward(vertices: Array, triangles: Array, centre: Array) -> Array:
    """Triangles turned round if most of them face the centre."""
    corner = vertices[triangles]
    facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    away = (facing * (corner.mean(1) - centre)).sum()
    return triangles if away > 0 else np.ascontiguousarray(triangles[:, ::-1])


def solid_grid(part: Part, grid: Array, uv: Array, head_weight: Array | float, centre: Array) -> Piece:
    """A solid piece from a grid of vertices [rows, columns, 3] with texture places [rows, columns, 2]."""
    rows, columns = grid.shape[:2]
    vertices = grid.reshape(-1, 3).astype(np.float32)
    count = len(vertices)
    weight = np.broadcast_to(np.asarray(head_weight, np.float32).reshape(-1), (count,)).copy()
    triangles = outward(vertices, grid_triangles(rows, columns), centre)
    return Piece(
        part,
        vertices,
        triangles,
        uv.reshape(-1, 2).astype(np.float32),
        weight,
        np.zeros((count, 2), np.float32),
        np.zeros(count, np.float32),
    )


def tube(part: Part, path: Array, radius: Array, sides: int, uv: tuple[float, float], closed: bool) -> Piece:
    """A round wire along path [n, 3] of radius [n], following the head."""
    if closed:
        path, radius = np.concatenate([path, path[:1]]), np.concatenate([radius, radius[:1]])
    tangent = np.gradient(path, axis=0)
    if closed:
        tangent[0] = tangent[-1] = path[1] - path[-2]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    reference = np.where(np.abs(tangent[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    side = np.cross(tangent, reference)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-9
    other = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    grid = path[:, None] + radius[:, None, None] * ring
    piece = solid_grid(part, grid, np.broadcast_to(uv, (*grid.shape[:2], 2)), 1.0, path.mean(0))
    corner, middle = grid.reshape(-1, 3)[piece.triangles], np.repeat(path, sides + 1, 0)
    facing = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    away = (facing * (corner.mean(1) - middle[piece.triangles].mean(1))).sum()
    if away > 0:
        return piece
    flipped = np.ascontiguousarray(piece.triangles[:, ::-1])
    return Piece(
        part, piece.vertices, flipped, piece.vertex_uv, piece.head_weight, piece.strand, piece.density
    )

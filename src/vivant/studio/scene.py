"""The scene of a look: face model, rigid pieces and hair shells merged into one set of arrays.

Vertex order: face model, pieces, shells. The order of triangles is the order of drawing, solid ones first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivant.studio.face_model import FaceModel
from vivant.studio.geometry import Outfit, Piece, Shell
from vivant.studio.parts import PART_OF_FACE_MODEL, Part
from vivant.studio.raster import OPAQUE

Array = NDArray[Any]

NECK_BLEND_Y = (-16.0, -10.0)
"""Between these heights the rotation fades from torso to head."""


@dataclass(frozen=True, eq=False)
class Scene:
    """All geometry of a look in one set of arrays: V' vertices, F triangles."""

    triangles: Array
    """[F, 3]."""
    triangle_part: Array
    """[F] Part numbers."""
    corner_uv: Array
    """[F, 3, 2] texture places."""
    one_sided: Array
    """[F] left out when seen from behind: the closed skin and the shells over it."""
    threshold: Array
    """[F] OPAQUE or the strand noise below which hair is cut away."""
    strand_depth: Array
    """[F] layer of hair, 0 root .. 1 surface."""
    strand: Array
    """[V', 2] across and along the hair."""
    density: Array
    """[V'] of hair."""
    head_weight: Array
    """[V'] 1 follows the head, 0 the torso."""
    rest: Array
    """[V', 3] generic positions, for procedural materials."""
    rigid_vertices: Array
    """[P, 3] of all pieces."""
    rigid_normals: Array
    """[P, 3]."""
    occluders: Array
    """[O, 3] the triangles that cast shadows."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a piece, a shell or the bare head adds to a scene; the same names as in `Scene`."""

    triangles: Array
    triangle_part: Array
    corner_uv: Array
    one_sided: Array
    threshold: float
    strand_depth: float
    strand: Array
    density: Array
    head_weight: Array
    rest: Array
    casts_shadow: bool


def head_weight(position: Array) -> Array:
    """How much generic positions [V, 3] follow the head: 1 above the neck, 0 at the shoulders."""
    low, high = NECK_BLEND_Y
    share = np.clip((position[:, 1] - low) / (high - low), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def _head_layer(model: FaceModel) -> _Layer:
    part_of = np.zeros(256, np.uint8)
    for number, part in PART_OF_FACE_MODEL.items():
        part_of[number] = part
    count = len(model.neutral)
    return _Layer(
        model.triangles,
        part_of[model.triangle_part],
        model.corner_uv,
        np.isin(model.triangle_part, (0, 1)),
        float(OPAQUE),
        0.0,
        np.zeros((count, 2)),
        np.zeros(count),
        head_weight(model.neutral),
        model.neutral,
        casts_shadow=True,
    )


def _layer(item: Piece | Shell, model: FaceModel) -> _Layer:
    if isinstance(item, Piece):
        uv, weight, rest = item.vertex_uv, item.head_weight, item.vertices
    else:
        uv = np.stack([np.zeros(len(item.source)), item.along], 1)
        rest = model.neutral[item.source]
        weight = head_weight(rest)
    return _Layer(
        item.triangles,
        np.full(len(item.triangles), item.part, np.uint8),
        uv[item.triangles],
        np.full(len(item.triangles), isinstance(item, Shell) and item.part is not Part.LASHES),
        item.threshold,
        item.depth,
        item.strand,
        item.density,
        weight,
        rest,
        item.casts_shadow,
    )


def merge(model: FaceModel, outfit: Outfit) -> Scene:
    """Lay out the bare head and its outfit one after another."""
    items: list[Piece | Shell] = [*outfit.pieces, *outfit.shells]
    layers = [_head_layer(model), *(_layer(item, model) for item in items)]
    starts = np.cumsum([0, *(len(layer.rest) for layer in layers)])
    counts = [len(layer.triangles) for layer in layers]

    def joined(name: str) -> Array:
        return np.concatenate([getattr(layer, name) for layer in layers]).astype(np.float32)

    def per_triangle(name: str) -> Array:
        return np.repeat([getattr(layer, name) for layer in layers], counts)

    numbered = [layer.triangles + start for layer, start in zip(layers, starts, strict=False)]
    triangles = np.concatenate(numbered).astype(np.int32)
    return Scene(
        triangles=triangles,
        triangle_part=np.concatenate([layer.triangle_part for layer in layers]).astype(np.uint8),
        corner_uv=joined("corner_uv"),
        one_sided=np.concatenate([layer.one_sided for layer in layers]),
        threshold=per_triangle("threshold").astype(np.float32),
        strand_depth=per_triangle("strand_depth").astype(np.float32),
        strand=joined("strand"),
        density=joined("density"),
        head_weight=joined("head_weight"),
        rest=joined("rest"),
        rigid_vertices=np.concatenate([piece.vertices for piece in outfit.pieces]).astype(np.float32),
        rigid_normals=np.concatenate([piece.normals() for piece in outfit.pieces]),
        occluders=triangles[per_triangle("casts_shadow")],
    )

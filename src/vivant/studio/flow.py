"""Exact optical flow between any two frames of a session, with occlusion, from the triangles that were drawn.

For each point of a grid over the driving frame: which triangle is seen there, where do its corners lie in the
source frame, and is that place visible there? Cells of `triangle_id` cover 2x2 pixels; the triangle is known at
the corner in the middle of the cell, (2i+1, 2j+1), and the displacement is exact there.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vivant.studio.dataset import POSITION_SCALE, Session
from vivant.studio.parts import Part

Array = NDArray[Any]

SOLID_TOLERANCE_MM = 8.0
HAIR_TOLERANCE_MM = 25.0
"""Strands of neighbouring hair layers do not hide each other for the purpose of flow."""
_HAIR, _BEARD = int(Part.HAIR), int(Part.BEARD)

_jit = numba.njit(cache=True, nogil=True)


@_jit
def _corner_weights(xy: Array, triangles: Array, f: int, x: float, y: float) -> tuple[float, float, float]:
    """Barycentric weights of (x, y) in triangle f, pulled inside; xy [V, 2] in stored fixed point."""
    a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
    scale = 1.0 / POSITION_SCALE
    x0, y0 = xy[a, 0] * scale, xy[a, 1] * scale
    x1, y1 = xy[b, 0] * scale - x0, xy[b, 1] * scale - y0
    x2, y2 = xy[c, 0] * scale - x0, xy[c, 1] * scale - y0
    area = x1 * y2 - x2 * y1
    if abs(area) < 1e-4:
        return 1 / 3, 1 / 3, 1 / 3
    wb = min(1.0, max(0.0, ((x - x0) * y2 - x2 * (y - y0)) / area))
    wc = min(1.0, max(0.0, (x1 * (y - y0) - (x - x0) * y1) / area))
    if wb + wc > 1:
        total = wb + wc
        wb, wc = wb / total, wc / total
    return 1 - wb - wc, wb, wc


@_jit
def _blend(values: Array, triangles: Array, f: int, weights: tuple[float, float, float]) -> float:
    a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
    return weights[0] * values[a] + weights[1] * values[b] + weights[2] * values[c]


@_jit
def _is_visible(
    triangle_id: Array,
    xy: Array,
    depth: Array,
    triangles: Array,
    x: float,
    y: float,
    own_depth: float,
    tolerance: float,
) -> bool:
    """Whether nothing at the four cells around (x, y) is much nearer than own_depth, in one of them at least."""
    cells = triangle_id.shape[0]
    left, top = int(np.floor(x / 2 - 0.5)), int(np.floor(y / 2 - 0.5))
    for row in range(top, top + 2):
        for column in range(left, left + 2):
            if row < 0 or column < 0 or row >= cells or column >= cells:
                continue
            f = triangle_id[row, column]
            if f < 0:
                continue
            weights = _corner_weights(xy, triangles, f, 2.0 * column + 1, 2.0 * row + 1)
            if _blend(depth, triangles, f, weights) >= own_depth - tolerance:
                return True
    return False


@_jit
def _flow(
    driving_id: Array,
    source_id: Array,
    driving_xy: Array,
    source_xy: Array,
    source_depth: Array,
    triangles: Array,
    triangle_part: Array,
    left: float,
    top: float,
    size: float,
    flow: Array,
    visible: Array,
) -> None:
    cells, n = driving_id.shape[0], flow.shape[0]
    limit = 2.0 * cells
    for row in range(n):
        for column in range(n):
            x, y = left + (column + 0.5) * size / n, top + (row + 0.5) * size / n
            i = min(cells - 1, max(0, int(np.floor(x / 2))))
            j = min(cells - 1, max(0, int(np.floor(y / 2))))
            f = driving_id[j, i]
            flow[row, column, 0] = flow[row, column, 1] = 0
            if f < 0:
                visible[row, column] = source_id[j, i] < 0
                continue
            at_x, at_y = 2.0 * i + 1, 2.0 * j + 1
            weights = _corner_weights(driving_xy, triangles, f, at_x, at_y)
            dx = dy = 0.0
            for corner in range(3):
                v = triangles[f, corner]
                dx += weights[corner] * (float(source_xy[v, 0]) - float(driving_xy[v, 0])) / POSITION_SCALE
                dy += weights[corner] * (float(source_xy[v, 1]) - float(driving_xy[v, 1])) / POSITION_SCALE
            flow[row, column, 0], flow[row, column, 1] = dx * 2 / size, dy * 2 / size
            inside = 0 <= at_x + dx < limit and 0 <= at_y + dy < limit
            part = triangle_part[f]
            tolerance = HAIR_TOLERANCE_MM if part in (_HAIR, _BEARD) else SOLID_TOLERANCE_MM
            visible[row, column] = inside and _is_visible(
                source_id,
                source_xy,
                source_depth,
                triangles,
                at_x + dx,
                at_y + dy,
                _blend(source_depth, triangles, f, weights),
                tolerance,
            )


def flow(
    session: Session, driving_frame: int, source_frame: int, left: float, top: float, size: float, n: int
) -> tuple[Array, Array]:
    """Backward flow on an n x n grid over the square crop (left, top, size) in pixels.

    Returns flow f32 [n, n, 2], from each point of the driving frame to the same point of the person in the source
    frame, in units where the crop spans [-1, 1], and visible bool [n, n]: the point can be seen in the source.
    Background does not move and is visible where both frames show background.
    """
    result, visible = np.empty((n, n, 2), np.float32), np.empty((n, n), np.bool_)
    _flow(
        session.triangle_id[driving_frame],
        session.triangle_id[source_frame],
        session.vertex_xy[driving_frame],
        session.vertex_xy[source_frame],
        session.vertex_depth[source_frame],
        session.triangles,
        session.triangle_part,
        float(left),
        float(top),
        float(size),
        result,
        visible,
    )
    return result, visible

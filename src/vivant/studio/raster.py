"""Numba kernels of the rasterizer: depth and triangle buffers, vertex normals, baked light visibility.

A visibility buffer holds the number of the triangle seen at each sample; colour is decided later, once per
sample (see shading.py). Screen coordinates have their origin at the top left, y down; depth grows with
distance. Depth is interpolated linearly in the image, which is exact enough for triangles of a few pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

FAR = np.float32(1e9)
OPAQUE = np.float32(-1.0)

_jit = numba.njit(cache=True, fastmath=True, nogil=True)


@_jit
def strand_noise(noise: Array, across: float, along: float) -> float:
    """Two octaves of noise stretched along the strand, 0..1; noise is square and tiles."""
    size = noise.shape[0]
    coarse = noise[int(along * 60.0) % size, int(across * 1200.0) % size]
    fine = noise[(int(along * 100.0) + 77) % size, int(across * 3600.0) % size]
    return 0.5 * coarse + 0.5 * fine


@_jit
def _strand_cut_away(value: float, density: float, threshold: float) -> bool:
    edge = min(1.0, max(0.0, (density - 0.05) * 2.0))
    return value * edge + (edge - 1.0) * 0.25 < threshold


@_jit
def draw(
    screen: Array,
    triangles: Array,
    one_sided: Array,
    threshold: Array,
    strand: Array,
    density: Array,
    noise: Array,
    depth_buffer: Array,
    triangle_buffer: Array,
    strand_buffer: Array,
) -> None:
    """Draw all triangles with depth test.

    screen [V, 3] is x, y, depth. one_sided [F] triangles are left out when seen from behind. threshold [F] is
    OPAQUE, or the strand noise below which a sample of a hair triangle is left out. strand [V, 2] (across, along)
    and density [V] belong to hair; strand_buffer receives the noise value as 0..255.
    """
    height, width = depth_buffer.shape
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, z0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, x2, y2 = screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area > -1e-9 and (one_sided[f] or area < 1e-9):
            continue
        left = max(0, math.ceil(min(x0, x1, x2) - 0.5))
        right = min(width - 1, math.floor(max(x0, x1, x2) - 0.5))
        top = max(0, math.ceil(min(y0, y1, y2) - 0.5))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - 0.5))
        if left > right or top > bottom:
            continue
        inverse = 1.0 / area
        slope_b, slope_c = screen[b, 2] - z0, screen[c, 2] - z0
        cut = threshold[f]
        for y in range(top, bottom + 1):
            py = y + 0.5 - y0
            for x in range(left, right + 1):
                px = x + 0.5 - x0
                wb = (px * (y2 - y0) - (x2 - x0) * py) * inverse
                wc = ((x1 - x0) * py - px * (y1 - y0)) * inverse
                if wb < 0 or wc < 0 or wb + wc > 1:
                    continue
                z = z0 + wb * slope_b + wc * slope_c
                if z >= depth_buffer[y, x]:
                    continue
                if cut >= 0:
                    wa = 1.0 - wb - wc
                    across = wa * strand[a, 0] + wb * strand[b, 0] + wc * strand[c, 0]
                    along = wa * strand[a, 1] + wb * strand[b, 1] + wc * strand[c, 1]
                    value = strand_noise(noise, across, along)
                    thick = wa * density[a] + wb * density[b] + wc * density[c]
                    if _strand_cut_away(value, thick, cut):
                        continue
                    strand_buffer[y, x] = np.uint8(255.0 * value)
                depth_buffer[y, x] = z
                triangle_buffer[y, x] = f


@_jit
def draw_depth(screen: Array, triangles: Array, depth_buffer: Array) -> None:
    """Draw opaque triangles into a depth buffer only; screen [V, 3] is x, y, depth."""
    height, width = depth_buffer.shape
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, z0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, x2, y2 = screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if -1e-9 < area < 1e-9:
            continue
        left = max(0, math.ceil(min(x0, x1, x2) - 0.5))
        right = min(width - 1, math.floor(max(x0, x1, x2) - 0.5))
        top = max(0, math.ceil(min(y0, y1, y2) - 0.5))
        bottom = min(height - 1, math.floor(max(y0, y1, y2) - 0.5))
        inverse = 1.0 / area
        for y in range(top, bottom + 1):
            py = y + 0.5 - y0
            for x in range(left, right + 1):
                px = x + 0.5 - x0
                wb = (px * (y2 - y0) - (x2 - x0) * py) * inverse
                wc = ((x1 - x0) * py - px * (y1 - y0)) * inverse
                if wb >= 0 and wc >= 0 and wb + wc <= 1:
                    z = z0 + wb * (screen[b, 2] - z0) + wc * (screen[c, 2] - z0)
                    if z < depth_buffer[y, x]:
                        depth_buffer[y, x] = z


@_jit
def vertex_normals(vertices: Array, triangles: Array, normals: Array) -> None:
    """Write area-weighted unit normals [V, 3]; triangles are counter-clockwise seen from outside."""
    normals[:] = 0
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ex, ey, ez = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        gx, gy, gz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = ey * gz - ez * gy, ez * gx - ex * gz, ex * gy - ey * gx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for i in range(len(normals)):
        length = math.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2 + 1e-20)
        normals[i, 0] /= length
        normals[i, 1] /= length
        normals[i, 2] /= length


@_jit
def accumulate_visible(
    screen: Array, depth_buffer: Array, cosine: Array, basis: Array, bias: float, transfer: Array
) -> None:
    """Add cosine * basis [9] to transfer [V, 9] of every vertex that the depth buffer does not hide."""
    height, width = depth_buffer.shape
    for i in range(len(screen)):
        if cosine[i] <= 0:
            continue
        x = min(width - 1, max(0, int(screen[i, 0])))
        y = min(height - 1, max(0, int(screen[i, 1])))
        if screen[i, 2] - bias < depth_buffer[y, x]:
            for k in range(9):
                transfer[i, k] += cosine[i] * basis[k]


@_jit
def rasterize_uv(image: Array, corners: Array, triangles: Array, values: Array) -> None:
    """Paint per-vertex values [V, C] into image [S, S, C] by texture corners [F, 3, 2], slightly past each edge."""
    size, channels = image.shape[0], image.shape[2]
    for f in range(len(triangles)):
        x0, y0 = corners[f, 0, 0] * size, (1 - corners[f, 0, 1]) * size
        x1, y1 = corners[f, 1, 0] * size, (1 - corners[f, 1, 1]) * size
        x2, y2 = corners[f, 2, 0] * size, (1 - corners[f, 2, 1]) * size
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area == 0:
            continue
        for y in range(max(0, int(min(y0, y1, y2)) - 1), min(size, int(max(y0, y1, y2)) + 2)):
            for x in range(max(0, int(min(x0, x1, x2)) - 1), min(size, int(max(x0, x1, x2)) + 2)):
                px, py = x + 0.5 - x0, y + 0.5 - y0
                wb = (px * (y2 - y0) - (x2 - x0) * py) / area
                wc = ((x1 - x0) * py - px * (y1 - y0)) / area
                wa = 1 - wb - wc
                if wa > -0.15 and wb > -0.15 and wc > -0.15:
                    for k in range(channels):
                        image[y, x, k] = (
                            wa * values[triangles[f, 0], k]
                            + wb * values[triangles[f, 1], k]
                            + wc * values[triangles[f, 2], k]
                        )

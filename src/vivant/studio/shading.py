"""Deferred shading: the colour of every visible sample, then tone mapping and antialiasing.

The visibility buffer says which triangle a sample shows; vertex quantities (`varyings`) are interpolated there and
handed to the materials. Two samples per axis make a pixel. Colours are linear until `resolve`.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vivant.studio.lighting import KEY_DIRECTION
from vivant.studio.materials import (
    CLOTHES,
    HEAD,
    NUM_VARYINGS,
    SHADOW,
    along_normal,
    lit_by_key,
    normalize,
    shade_sample,
)
from vivant.studio.surface import Surface

Array = NDArray[Any]

_jit = numba.njit(cache=True, fastmath=True, nogil=True)
_inlined = numba.njit(fastmath=True, nogil=True, forceinline=True)

_TONE_STEPS = 4096
_TONE_CURVE = (np.linspace(0, 1, _TONE_STEPS + 1) ** (1 / 2.2)).astype(np.float32)


@_inlined
def _interpolate(
    x: int, y: int, f: int, screen: Array, varyings: Array, triangles: Array, corner_uv: Array, at: Array
) -> tuple[float, float]:
    """Write the varyings of triangle f at the centre of sample (x, y) into at; returns the texture place."""
    a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
    x0, y0 = screen[a, 0], screen[a, 1]
    x1, y1, x2, y2 = screen[b, 0] - x0, screen[b, 1] - y0, screen[c, 0] - x0, screen[c, 1] - y0
    area = x1 * y2 - x2 * y1
    px, py = x + 0.5 - x0, y + 0.5 - y0
    wb, wc = (px * y2 - x2 * py) / area, (x1 * py - px * y1) / area
    wa = 1 - wb - wc
    for k in range(NUM_VARYINGS):
        at[k] = wa * varyings[a, k] + wb * varyings[b, k] + wc * varyings[c, k]
    normalize(at)
    u = wa * corner_uv[f, 0, 0] + wb * corner_uv[f, 1, 0] + wc * corner_uv[f, 2, 0]
    v = wa * corner_uv[f, 0, 1] + wb * corner_uv[f, 1, 1] + wc * corner_uv[f, 2, 1]
    return u, v


@_inlined
def _is_even(triangle_buffer: Array, triangle_part: Array, x: int, y: int) -> bool:
    """Whether all four samples of a pixel show the same smooth material, so that two of them will do."""
    first = triangle_buffer[y, x]
    if first < 0:
        return False
    part = triangle_part[first]
    if part > HEAD and part != CLOTHES:
        return False
    for s in range(1, 4):
        f = triangle_buffer[y + s // 2, x + s % 2]
        if f < 0 or triangle_part[f] != part:
            return False
    return True


@_jit
def shade(
    triangle_buffer: Array,
    strand_buffer: Array,
    screen: Array,
    varyings: Array,
    triangles: Array,
    triangle_part: Array,
    corner_uv: Array,
    strand_depth: Array,
    light: Array,
    surface: Surface,
    shadow_depth: Array,
    radiance: Array,
) -> None:
    """Write linear RGB and coverage into radiance [H, W, 4]; H and W are even.

    varyings [V, 16] are listed in materials.py; strand_depth [F] is the layer of hair triangles 0..1;
    corner_uv of hair holds the place along the strand (0 root, 1 tip) in its second component; light is packed
    by lighting.pack_light.
    """
    height, width = triangle_buffer.shape
    at = np.zeros(NUM_VARYINGS, np.float64)
    colour, out = np.zeros(3, np.float64), np.zeros(3, np.float64)
    for pixel in range(height // 2 * (width // 2)):
        top, left = 2 * (pixel // (width // 2)), 2 * (pixel % (width // 2))
        is_even = _is_even(triangle_buffer, triangle_part, left, top)
        for s in range(4):
            # Both samples of the falling diagonal come first; a smooth pixel copies them.
            x, y = left + (s & 1), top + ((s & 1) ^ (s >> 1))
            f = triangle_buffer[y, x]
            if f < 0:
                radiance[y, x, 0] = radiance[y, x, 1] = radiance[y, x, 2] = radiance[y, x, 3] = 0
                continue
            if s < 2 or not is_even:
                u, v = _interpolate(x, y, f, screen, varyings, triangles, corner_uv, at)
                facing = along_normal(at, light, KEY_DIRECTION)
                bias = 0.006 + 0.004 * min(4.0, 1 / max(0.1, abs(facing)))
                lit = lit_by_key(shadow_depth, at[SHADOW], at[SHADOW + 1], at[SHADOW + 2], bias)
                tip, strand = min(1.0, max(0.0, v)), strand_buffer[y, x] / 255.0
                part = triangle_part[f]
                shade_sample(out, part, u, v, at, strand, strand_depth[f], tip, lit, light, surface, colour)
                radiance[y, x, 0], radiance[y, x, 1], radiance[y, x, 2] = out[0], out[1], out[2]
            else:
                for k in range(3):
                    radiance[y, x, k] = radiance[2 * top + 1 - y, x, k]
            radiance[y, x, 3] = 1


@_jit
def _resolve(radiance: Array, exposure: float, curve: Array, image: Array) -> None:
    height, width = image.shape[:2]
    steps = len(curve) - 1
    for y in range(height):
        for x in range(width):
            covered = 0.0
            for k in range(3):
                total = 0.0
                for s in range(4):
                    row, column = 2 * y + s // 2, 2 * x + s % 2
                    if radiance[row, column, 3] > 0:
                        light = max(0.0, radiance[row, column, k] * exposure)
                        filmic = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
                        total += curve[int(min(1.0, filmic) * steps)]
                image[y, x, k] = np.uint8(total * 63.75 + 0.5)
            for s in range(4):
                covered += radiance[2 * y + s // 2, 2 * x + s % 2, 3]
            image[y, x, 3] = np.uint8(covered * 63.75 + 0.5)


def resolve(radiance: Array, exposure: float) -> Array:
    """Filmic tone curve per sample, then 2x2 averaging into premultiplied RGBA bytes [S, S, 4]."""
    size = radiance.shape[0] // 2
    image = np.empty((size, size, 4), np.uint8)
    _resolve(radiance, exposure, _TONE_CURVE, image)
    return image

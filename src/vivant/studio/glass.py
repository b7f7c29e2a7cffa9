"""Lenses of glasses: what lies behind them is tinted, and they mirror the key light and the surroundings.

They come after shading and leave the visibility buffer alone, so flow follows the eyes behind clear glass.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vivant.studio.lighting import GROUND, KEY_COLOUR, KEY_DIRECTION, SKY

Array = NDArray[Any]

_jit = numba.njit(cache=True, fastmath=True, nogil=True)
_inlined = numba.njit(fastmath=True, nogil=True, forceinline=True)


@_inlined
def _reflection(position: Array, normal: Array, light: Array) -> tuple[float, float, float]:
    """(strength of the mirror image, how far up it looks 0..1, glint of the key light) of glass at position."""
    length = math.sqrt(position[0] ** 2 + position[1] ** 2 + position[2] ** 2)
    along, to_half, half_squared = 0.0, 0.0, 0.0
    for k in range(3):
        view = -position[k] / length
        half = view + light[KEY_DIRECTION, k]
        along += normal[k] * view
        to_half += normal[k] * half
        half_squared += half * half
    up = 0.5 + 0.5 * (2 * along * normal[1] + position[1] / length)
    glint = max(0.0, to_half / math.sqrt(half_squared + 1e-9)) ** 300
    return 0.05 + 0.6 * (1 - min(1.0, abs(along))) ** 5, up, glint


@_jit
def look_through(
    screen: Array,
    positions: Array,
    normals: Array,
    triangles: Array,
    transmission: Array,
    light: Array,
    depth_buffer: Array,
    radiance: Array,
    scratch: Array,
) -> None:
    """Change radiance [H, W, 4] behind the lens triangles that face the camera.

    screen [V, 3] is x, y, depth; positions and normals [V, 3] are in camera space, transmission [3],
    light is packed by lighting.pack_light, scratch [2, 3].
    """
    height, width = depth_buffer.shape
    seen = np.zeros((height, width), np.bool_)  # samples on an edge belong to two triangles
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, z0 = screen[a, 0], screen[a, 1], screen[a, 2]
        x1, y1, x2, y2 = screen[b, 0] - x0, screen[b, 1] - y0, screen[c, 0] - x0, screen[c, 1] - y0
        area = x1 * y2 - x2 * y1
        if area > -1e-9:
            continue
        left, right = x0 + min(0.0, x1, x2), x0 + max(0.0, x1, x2)
        top, bottom = y0 + min(0.0, y1, y2), y0 + max(0.0, y1, y2)
        for y in range(max(0, int(top)), min(height, int(bottom) + 2)):
            for x in range(max(0, int(left)), min(width, int(right) + 2)):
                px, py = x + 0.5 - x0, y + 0.5 - y0
                wb, wc = (px * y2 - x2 * py) / area, (x1 * py - px * y1) / area
                if wb < 0 or wc < 0 or wb + wc > 1 or radiance[y, x, 3] == 0 or seen[y, x]:
                    continue
                if z0 + wb * (screen[b, 2] - z0) + wc * (screen[c, 2] - z0) >= depth_buffer[y, x]:
                    continue
                seen[y, x] = True
                for k in range(3):
                    scratch[0, k] = (
                        (1 - wb - wc) * positions[a, k] + wb * positions[b, k] + wc * positions[c, k]
                    )
                    scratch[1, k] = (1 - wb - wc) * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
                mirror, up, glint = _reflection(scratch[0], scratch[1], light)
                for k in range(3):
                    around = light[GROUND, k] * (1 - up) + light[SKY, k] * up
                    behind = radiance[y, x, k] * transmission[k]
                    radiance[y, x, k] = behind + mirror * around + glint * light[KEY_COLOUR, k]

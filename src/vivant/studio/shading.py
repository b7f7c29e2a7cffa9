"""Deferred shading: the colour of every visible sample, then tone mapping and antialiasing.

The visibility buffer says which triangle a sample shows. Vertex quantities (`varyings`) are interpolated there,
a material is chosen by part and lit by key, rim and baked ambient light. Colours are linear until `resolve`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from vivant.studio.lighting import Light
from vivant.studio.parts import Part

Array = NDArray[Any]

_jit = numba.njit(cache=True, fastmath=True, nogil=True)
# Passing a Surface by value to a function that is not inlined costs more than the function.
_inlined = numba.njit(fastmath=True, nogil=True, forceinline=True)

# Columns of the varyings.
POSITION, NORMAL, IRRADIANCE, OPENNESS, REST, SHADOW = 0, 3, 6, 9, 10, 13
NUM_VARYINGS = 16

# Parts as plain integers, which numba can freeze.
FACE, HEAD, MOUTH_INNER, EYE_SOCKET = (
    int(Part.FACE),
    int(Part.HEAD),
    int(Part.MOUTH_INNER),
    int(Part.EYE_SOCKET),
)
TONGUE_GUMS, TEETH, EYE_L, EYE_R = int(Part.TONGUE_GUMS), int(Part.TEETH), int(Part.EYE_L), int(Part.EYE_R)
LASHES, HAIR, BEARD, CLOTHES = int(Part.LASHES), int(Part.HAIR), int(Part.BEARD), int(Part.CLOTHES)
GLASSES, HAT, JEWELLERY = int(Part.GLASSES), int(Part.HAT), int(Part.JEWELLERY)

# Limits of the lips in the generic face, cm: a little glossier than skin.
LIP_HALF_WIDTH, LIP_Y, LIP_HALF_HEIGHT = 2.4, -3.5, 1.0


class Surface(NamedTuple):
    """Colours and textures of one look, linear light; images are [S, S, 3] with v up."""

    face_image: Array
    head_image: Array
    bump: Array
    """[S, S] skin relief."""
    cloth_image: Array
    hat_image: Array
    noise: Array
    """[N, N] tiling noise, 0..1."""
    skin: Array
    hair: Array
    hair_tip: Array
    beard: Array
    iris_left: Array
    iris_right: Array
    sclera: Array
    teeth: Array
    tongue: Array
    lash: Array
    glasses: Array
    jewellery: Array
    gloss: float
    """Strength of skin highlights, about 0.6..1.3."""
    relief: float
    limbus: float
    """Texture radius of the iris."""
    pupil: float
    hair_gloss: float


@_inlined
def _sample(image: Array, u: float, v: float, colour: Array) -> None:
    size = image.shape[0]
    x = min(max(u * size - 0.5, 0.0), size - 1.001)
    y = min(max((1 - v) * size - 0.5, 0.0), size - 1.001)
    xi, yi = int(x), int(y)
    fx, fy = x - xi, y - yi
    for k in range(3):
        upper = image[yi, xi, k] * (1 - fx) + image[yi, xi + 1, k] * fx
        lower = image[yi + 1, xi, k] * (1 - fx) + image[yi + 1, xi + 1, k] * fx
        colour[k] = upper * (1 - fy) + lower * fy


@_inlined
def _ramp(x: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (x - low) / (high - low)))


@_inlined
def _lit_by_key(shadow_depth: Array, x: float, y: float, z: float, bias: float) -> float:
    """Share of a 3x3 neighbourhood of the shadow map that is not in front of (x, y, z)."""
    size = shadow_depth.shape[0]
    xi, yi = int(x), int(y)
    if xi < 1 or yi < 1 or xi > size - 2 or yi > size - 2:
        return 1.0
    lit = 0.0
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if z - bias <= shadow_depth[yi + dy, xi + dx]:
                lit += 1.0
    return lit / 9.0


@_inlined
def _eye_colour(u: float, v: float, iris: Array, surface: Surface, colour: Array) -> None:
    """Pupil, iris with dark rim and fibres, veined white; (u, v) is centred on the optical axis."""
    radius = math.sqrt((u - 0.5) ** 2 + (v - 0.5) ** 2)
    angle = math.atan2(v - 0.5, u - 0.5)
    size = surface.noise.shape[0]
    fibre = surface.noise[int(radius * 600) % size, int((angle + 3.2) * 80) % size]
    limbus, pupil = surface.limbus, surface.pupil
    white = _ramp(radius, limbus - 0.008, limbus + 0.012)
    outside_pupil = _ramp(radius, pupil - 0.006, pupil + 0.006)
    rim = _ramp(radius, limbus * 0.8, limbus)
    depth = _ramp(radius, pupil, limbus)
    red = min(0.5, max(0.0, (radius - 0.2) * 1.6))
    for k in range(3):
        shade = iris[k] * (0.55 + 0.9 * fibre) * (1.35 - 0.6 * depth)
        shade = shade * (1 - rim) + iris[k] * 0.2 * rim
        shade = 0.006 * (1 - outside_pupil) + shade * outside_pupil
        vein = 1.0 if k == 0 else 0.62
        ball = surface.sclera[k] * (1 - red + red * vein)
        colour[k] = shade * (1 - white) + ball * white


@_inlined
def _base_colour(
    part: int, u: float, v: float, at: Array, strand: float, surface: Surface, colour: Array
) -> None:
    """Write the albedo of a sample; at holds the interpolated varyings, strand the hair noise 0..1."""
    if part == FACE:
        _sample(surface.face_image, u, v, colour)
    elif part == HEAD:
        _sample(surface.head_image, u - 1, v, colour)
    elif part == CLOTHES:
        _sample(surface.cloth_image, u, v, colour)
    elif part == HAT:
        _sample(surface.hat_image, u, v, colour)
    elif part == EYE_L:
        _eye_colour(u, v, surface.iris_left, surface, colour)
    elif part == EYE_R:
        _eye_colour(u, v, surface.iris_right, surface, colour)
    elif part == TEETH:
        # Darker between the teeth (noise along the arch) and towards the gums.
        size = surface.noise.shape[0]
        tint = 0.94 + 0.12 * surface.noise[int(at[REST] * 37) % size, int(at[REST + 1] * 23) % size]
        back = 0.45 + 0.55 * _ramp(at[REST + 2], 6.5, 9.2)
        for k in range(3):
            colour[k] = surface.teeth[k] * tint * back
    elif part == TONGUE_GUMS:
        size = surface.noise.shape[0]
        tint = 0.8 + 0.4 * surface.noise[int(at[REST] * 60) % size, int(at[REST + 2] * 60) % size]
        back = 0.25 + 0.75 * _ramp(at[REST + 2], 4.0, 9.0)
        for k in range(3):
            colour[k] = surface.tongue[k] * tint * back
    elif part == MOUTH_INNER:
        back = 0.08 + 0.92 * _ramp(at[REST + 2], 6.0, 10.0)
        for k in range(3):
            colour[k] = surface.tongue[k] * 0.7 * back
    elif part == EYE_SOCKET:
        colour[0], colour[1], colour[2] = surface.skin[0] * 0.8, surface.skin[1] * 0.5, surface.skin[2] * 0.45
    elif part == LASHES:
        colour[:] = surface.lash
    elif part == GLASSES:
        colour[:] = surface.glasses
    else:
        colour[:] = surface.jewellery


@_inlined
def _shade_hair(
    out: Array,
    at: Array,
    light: Light,
    surface: Surface,
    beard: bool,
    strand: float,
    depth: float,
    tip: float,
    lit: float,
) -> None:
    """Kajiya-Kay strands: depth 0 at the root .. 1 at the surface, tip 0..1 along the strand."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    px, py, pz = at[POSITION], at[POSITION + 1], at[POSITION + 2]
    q = 1 / math.sqrt(px * px + py * py + pz * pz)
    vx, vy, vz = -px * q, -py * q, -pz * q
    key, rim = light.key_direction, light.rim_direction
    hx, hy, hz = key[0] + vx, key[1] + vy, key[2] + vz
    q = 1 / math.sqrt(hx * hx + hy * hy + hz * hz)
    length = math.sqrt(ny * ny + nz * nz) + 1e-6
    along = (-nz * hy + ny * hz) / length * q
    narrow, wide = max(0.0, 1 - along * along) ** 40, max(0.0, 1 - along * along) ** 9
    facing = max(0.0, (nx * key[0] + ny * key[1] + nz * key[2]) * 0.7 + 0.3)
    open_sky = 0.3 + 0.7 * depth
    edge = max(0.0, 1 - abs(nx * vx + ny * vy + nz * vz)) ** 2
    from_behind = edge * max(0.0, (nx * rim[0] + ny * rim[1] + nz * rim[2]) * 0.6 + 0.4)
    for k in range(3):
        colour = surface.beard[k] if beard else surface.hair[k] * (1 - tip) + surface.hair_tip[k] * tip
        ambient = max(at[IRRADIANCE + k], 0.25 * light.sky[k])
        diffuse = colour * (0.5 + strand) * open_sky * (ambient * 0.95 + light.key_colour[k] * facing * lit)
        shine = (
            (0.05 * narrow * surface.hair_gloss + colour * 0.6 * wide) * light.key_colour[k] * lit * open_sky
        )
        out[k] = (
            diffuse + shine * (0.4 + 0.9 * strand) + (colour * 0.5 + 0.02) * light.rim_colour[k] * from_behind
        )


@_inlined
def _shade_eye(out: Array, at: Array, light: Light, colour: Array, lit: float) -> None:
    """Wet ball: diffuse colour, a sharp key highlight and a faint reflection of the sky."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    px, py, pz = at[POSITION], at[POSITION + 1], at[POSITION + 2]
    q = 1 / math.sqrt(px * px + py * py + pz * pz)
    vx, vy, vz = -px * q, -py * q, -pz * q
    key = light.key_direction
    hx, hy, hz = key[0] + vx, key[1] + vy, key[2] + vz
    q = 1 / math.sqrt(hx * hx + hy * hy + hz * hz)
    glint = 2.2 * max(0.0, (nx * hx + ny * hy + nz * hz) * q) ** 500
    facing = max(0.0, nx * key[0] + ny * key[1] + nz * key[2])
    uncovered = min(1.0, at[OPENNESS] / 0.55)
    up = 0.5 + 0.5 * (2 * (nx * vx + ny * vy + nz * vz) * ny - vy)
    for k in range(3):
        sky = light.ground[k] * (1 - up) + light.sky[k] * up
        body = colour[k] * (at[IRRADIANCE + k] * 0.95 + light.key_colour[k] * facing * lit * 0.8)
        out[k] = (
            body * (0.35 + 0.65 * uncovered)
            + light.key_colour[k] * glint * lit * 0.9
            + sky * 0.03 * uncovered
        )


@_inlined
def _shade_solid(
    out: Array,
    at: Array,
    light: Light,
    colour: Array,
    specular: float,
    roughness: float,
    bleed: float,
    lit: float,
) -> None:
    """Wrapped diffuse (red bleeds over the shadow edge of skin) plus two GGX lobes and a grazing reflection."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    px, py, pz = at[POSITION], at[POSITION + 1], at[POSITION + 2]
    q = 1 / math.sqrt(px * px + py * py + pz * pz)
    vx, vy, vz = -px * q, -py * q, -pz * q
    nv = nx * vx + ny * vy + nz * vz
    if nv < 0:
        nx, ny, nz, nv = nx - 2 * nv * vx, ny - 2 * nv * vy, nz - 2 * nv * vz, -nv
    nv = max(0.05, nv)
    key, rim = light.key_direction, light.rim_direction
    hx, hy, hz = key[0] + vx, key[1] + vy, key[2] + vz
    q = 1 / math.sqrt(hx * hx + hy * hy + hz * hz)
    nl = nx * key[0] + ny * key[1] + nz * key[2]
    nl_rim = max(0.0, nx * rim[0] + ny * rim[1] + nz * rim[2])
    nh = max(0.0, (nx * hx + ny * hy + nz * hz) * q)
    vh = max(0.0, (vx * hx + vy * hy + vz * hz) * q)
    openness = at[OPENNESS]
    fresnel = specular + (1 - specular) * (1 - vh) ** 5 * 0.6
    wide = roughness**4
    tight = wide * 0.1225
    lobe = 0.65 * wide / (math.pi * (nh * nh * (wide - 1) + 1) ** 2)
    lobe += 0.35 * tight / (math.pi * (nh * nh * (tight - 1) + 1) ** 2)
    highlight = lit * max(0.0, nl) * fresnel * lobe * 0.55 / (nv * 3 + 0.6) * openness
    mirror = (specular + (1 - specular) * (1 - nv) ** 5 * 0.35) * openness * (1 - roughness * 0.6)
    up = 0.5 + 0.5 * (2 * nv * ny - vy)
    for k in range(3):
        wrap = (0.32 if k == 0 else 0.14 if k == 1 else 0.09) * bleed
        diffuse = max(0.0, (nl + wrap) / (1 + wrap)) * lit * (0.5 + 0.5 * openness)
        received = (
            at[IRRADIANCE + k] + light.key_colour[k] * diffuse + light.rim_colour[k] * nl_rim * openness
        )
        sky = light.ground[k] * (1 - up) + light.sky[k] * up
        out[k] = colour[k] * received + light.key_colour[k] * highlight + sky * mirror


@_inlined
def _tilt_by_relief(at: Array, u: float, v: float, bump: Array, relief: float) -> None:
    """Tilt the normal by the slope of the skin relief."""
    size = bump.shape[0]
    x, y = min(size - 2, max(0, int(u * size))), min(size - 2, max(0, int((1 - v) * size)))
    at[NORMAL] -= (bump[y, x + 1] - bump[y, x]) * relief
    at[NORMAL + 1] -= (bump[y, x] - bump[y + 1, x]) * relief
    _normalize(at)


@_inlined
def _normalize(at: Array) -> None:
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    q = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    at[NORMAL], at[NORMAL + 1], at[NORMAL + 2] = nx * q, ny * q, nz * q


@_inlined
def _fill_mouth(at: Array, share: float, light: Light) -> None:
    """Light that lips and cheeks scatter into the mouth, less towards the throat; baking misses it."""
    share *= 0.15 + 0.85 * _ramp(at[REST + 2], 5.5, 10.0)
    for k in range(3):
        scattered = 0.45 * (light.sky[k] + light.ground[k]) + 0.25 * light.key_colour[k]
        tint = 1.0 if k == 0 else 0.88 if k == 1 else 0.84
        at[IRRADIANCE + k] = max(at[IRRADIANCE + k], share * scattered * tint)


@_inlined
def _shade_sample(
    out: Array,
    part: int,
    u: float,
    v: float,
    at: Array,
    strand: float,
    depth: float,
    tip: float,
    lit: float,
    light: Light,
    surface: Surface,
    colour: Array,
) -> None:
    if part in (HAIR, BEARD):
        _shade_hair(out, at, light, surface, part == BEARD, strand, depth, tip, lit)
        return
    _base_colour(part, u, v, at, strand, surface, colour)
    if part in (EYE_L, EYE_R):
        _shade_eye(out, at, light, colour, lit)
        return
    specular, roughness, bleed = 0.01, 0.7, 0.0
    if part == FACE:
        specular, roughness, bleed = 0.028 * surface.gloss, 0.42, 1.0
        _tilt_by_relief(at, u, v, surface.bump, surface.relief)
        if abs(at[REST]) < LIP_HALF_WIDTH and abs(at[REST + 1] - LIP_Y) < LIP_HALF_HEIGHT:
            specular, roughness = specular * 1.5, 0.34
    elif part == HEAD:
        specular, roughness, bleed = 0.02 * surface.gloss, 0.42, 1.0
    elif part == TEETH:
        specular, roughness, bleed = 0.05, 0.22, 1.0
        lit = 0.3 + 0.7 * lit
        _fill_mouth(at, 0.55, light)
    elif part in (TONGUE_GUMS, MOUTH_INNER):
        specular, roughness, bleed = 0.04, 0.3, 1.0
        lit = 0.15 + 0.85 * lit
        _fill_mouth(at, 0.5, light)
    elif part in (GLASSES, JEWELLERY):
        specular, roughness = 0.06, 0.25
    _shade_solid(out, at, light, colour, specular, roughness, bleed, lit)


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
    light: Light,
    surface: Surface,
    shadow_depth: Array,
    radiance: Array,
) -> None:
    """Write linear RGB and coverage into radiance [H, W, 4].

    varyings [V, 16] are listed at the top of this file; strand_depth [F] is the layer of hair triangles 0..1;
    corner_uv of hair holds the place along the strand (0 root, 1 tip) in its second component.
    """
    height, width = triangle_buffer.shape
    at = np.zeros(NUM_VARYINGS, np.float64)
    colour, out = np.zeros(3, np.float64), np.zeros(3, np.float64)
    for y in range(height):
        for x in range(width):
            f = triangle_buffer[y, x]
            if f < 0:
                radiance[y, x, 0] = radiance[y, x, 1] = radiance[y, x, 2] = radiance[y, x, 3] = 0
                continue
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            x0, y0, x1, y1 = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
            x2, y2 = screen[c, 0], screen[c, 1]
            area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
            wb = ((x + 0.5 - x0) * (y2 - y0) - (x2 - x0) * (y + 0.5 - y0)) / area
            wc = ((x1 - x0) * (y + 0.5 - y0) - (x + 0.5 - x0) * (y1 - y0)) / area
            wa = 1 - wb - wc
            for k in range(NUM_VARYINGS):
                at[k] = wa * varyings[a, k] + wb * varyings[b, k] + wc * varyings[c, k]
            _normalize(at)
            u = wa * corner_uv[f, 0, 0] + wb * corner_uv[f, 1, 0] + wc * corner_uv[f, 2, 0]
            v = wa * corner_uv[f, 0, 1] + wb * corner_uv[f, 1, 1] + wc * corner_uv[f, 2, 1]
            key = light.key_direction
            facing = at[NORMAL] * key[0] + at[NORMAL + 1] * key[1] + at[NORMAL + 2] * key[2]
            bias = 0.006 + 0.004 * min(4.0, 1 / max(0.1, abs(facing)))
            lit = _lit_by_key(shadow_depth, at[SHADOW], at[SHADOW + 1], at[SHADOW + 2], bias)
            _shade_sample(
                out,
                triangle_part[f],
                u,
                v,
                at,
                strand_buffer[y, x] / 255.0,
                strand_depth[f],
                min(1.0, max(0.0, v)),
                lit,
                light,
                surface,
                colour,
            )
            radiance[y, x, 0], radiance[y, x, 1], radiance[y, x, 2] = out[0], out[1], out[2]
            radiance[y, x, 3] = 1


@_jit
def resolve(radiance: Array, exposure: float, image: Array) -> None:
    """Filmic tone curve per sample, then 2x2 averaging into premultiplied RGBA image [S, S, 4] of bytes."""
    height, width = image.shape[:2]
    for y in range(height):
        for x in range(width):
            covered = 0.0
            for k in range(3):
                total = 0.0
                for dy in range(2):
                    for dx in range(2):
                        if radiance[2 * y + dy, 2 * x + dx, 3] > 0:
                            light = max(0.0, radiance[2 * y + dy, 2 * x + dx, k] * exposure)
                            curve = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
                            total += min(1.0, curve) ** (1 / 2.2)
                image[y, x, k] = np.uint8(total * 63.75 + 0.5)
            for dy in range(2):
                for dx in range(2):
                    covered += radiance[2 * y + dy, 2 * x + dx, 3]
            image[y, x, 3] = np.uint8(covered * 63.75 + 0.5)

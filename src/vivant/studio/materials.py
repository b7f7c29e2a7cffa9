"""Materials: the linear colour of one visible sample of skin, hair, eye, tooth or cloth in the light.

Numba functions that are inlined into shading.py. A sample comes with its interpolated vertex quantities
(`at`, columns listed below), a texture place and the share of key light that reaches it.
After a change here, save shading.py too: numba's cache looks only at the file of the compiled function.
"""

from __future__ import annotations

import math
from typing import Any

import numba
from numpy.typing import NDArray

from vivant.studio.lighting import GROUND, KEY_COLOUR, KEY_DIRECTION, RIM_COLOUR, RIM_DIRECTION, SKY
from vivant.studio.parts import Part
from vivant.studio.surface import Colour, Number, Surface

Array = NDArray[Any]

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


# The same as plain integers, which numba can freeze.
_SKIN, _HAIR, _HAIR_TIP, _BEARD = (int(row) for row in list(Colour)[:4])
_IRIS_LEFT, _IRIS_RIGHT, _SCLERA, _TEETH = (int(row) for row in list(Colour)[4:8])
_TONGUE, _LASH, _GLASSES, _JEWELLERY = (int(row) for row in list(Colour)[8:])
_GLOSS, _RELIEF, _LIMBUS, _PUPIL, _HAIR_GLOSS = (int(entry) for entry in Number)


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
def _copy(colours: Array, row: int, colour: Array) -> None:
    for k in range(3):
        colour[k] = colours[row, k]


@_inlined
def _ramp(x: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (x - low) / (high - low)))


@_inlined
def along_normal(at: Array, light: Array, row: int) -> float:
    """Cosine between a sample's normal and a direction of the packed light."""
    return at[NORMAL] * light[row, 0] + at[NORMAL + 1] * light[row, 1] + at[NORMAL + 2] * light[row, 2]


@_inlined
def _towards_camera(at: Array) -> tuple[float, float, float]:
    px, py, pz = at[POSITION], at[POSITION + 1], at[POSITION + 2]
    q = -1 / math.sqrt(px * px + py * py + pz * pz)
    return px * q, py * q, pz * q


@_inlined
def _halfway(light: Array, vx: float, vy: float, vz: float) -> tuple[float, float, float]:
    """Unit vector between the key light and the view."""
    hx, hy, hz = light[KEY_DIRECTION, 0] + vx, light[KEY_DIRECTION, 1] + vy, light[KEY_DIRECTION, 2] + vz
    q = 1 / math.sqrt(hx * hx + hy * hy + hz * hz)
    return hx * q, hy * q, hz * q


@_inlined
def lit_by_key(shadow_depth: Array, x: float, y: float, z: float, bias: float) -> float:
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
def _eye_colour(u: float, v: float, iris: int, surface: Surface, colour: Array) -> None:
    """Pupil, iris with dark rim and fibres, veined white; (u, v) is centred on the optical axis."""
    radius = math.sqrt((u - 0.5) ** 2 + (v - 0.5) ** 2)
    angle = math.atan2(v - 0.5, u - 0.5)
    size = surface.noise.shape[0]
    fibre = surface.noise[int(radius * 600) % size, int((angle + 3.2) * 80) % size]
    limbus, pupil = surface.numbers[_LIMBUS], surface.numbers[_PUPIL]
    white = _ramp(radius, limbus - 0.008, limbus + 0.012)
    outside_pupil = _ramp(radius, pupil - 0.006, pupil + 0.006)
    rim = _ramp(radius, limbus * 0.8, limbus)
    depth = _ramp(radius, pupil, limbus)
    red = min(0.5, max(0.0, (radius - 0.2) * 1.6))
    for k in range(3):
        shade = surface.colours[iris, k] * (0.55 + 0.9 * fibre) * (1.35 - 0.6 * depth)
        shade = shade * (1 - rim) + surface.colours[iris, k] * 0.2 * rim
        shade = 0.006 * (1 - outside_pupil) + shade * outside_pupil
        vein = 1.0 if k == 0 else 0.62
        ball = surface.colours[_SCLERA, k] * (1 - red + red * vein)
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
        _eye_colour(u, v, _IRIS_LEFT, surface, colour)
    elif part == EYE_R:
        _eye_colour(u, v, _IRIS_RIGHT, surface, colour)
    elif part == TEETH:
        # Darker between the teeth (noise along the arch) and towards the gums.
        size = surface.noise.shape[0]
        tint = 0.94 + 0.12 * surface.noise[int(at[REST] * 37) % size, int(at[REST + 1] * 23) % size]
        back = 0.45 + 0.55 * _ramp(at[REST + 2], 6.5, 9.2)
        for k in range(3):
            colour[k] = surface.colours[_TEETH, k] * tint * back
    elif part == TONGUE_GUMS:
        size = surface.noise.shape[0]
        tint = 0.8 + 0.4 * surface.noise[int(at[REST] * 60) % size, int(at[REST + 2] * 60) % size]
        back = 0.25 + 0.75 * _ramp(at[REST + 2], 4.0, 9.0)
        for k in range(3):
            colour[k] = surface.colours[_TONGUE, k] * tint * back
    elif part == MOUTH_INNER:
        back = 0.08 + 0.92 * _ramp(at[REST + 2], 6.0, 10.0)
        for k in range(3):
            colour[k] = surface.colours[_TONGUE, k] * 0.7 * back
    elif part == EYE_SOCKET:
        colour[0], colour[1], colour[2] = (
            surface.colours[_SKIN, 0] * 0.8,
            surface.colours[_SKIN, 1] * 0.5,
            surface.colours[_SKIN, 2] * 0.45,
        )
    elif part == LASHES:
        _copy(surface.colours, _LASH, colour)
    elif part == GLASSES:
        _copy(surface.colours, _GLASSES, colour)
    else:
        _copy(surface.colours, _JEWELLERY, colour)


@_inlined
def _shade_hair(
    out: Array,
    at: Array,
    light: Array,
    surface: Surface,
    beard: bool,
    strand: float,
    depth: float,
    tip: float,
    lit: float,
) -> None:
    """Kajiya-Kay strands: depth 0 at the root .. 1 at the surface, tip 0..1 along the strand."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    vx, vy, vz = _towards_camera(at)
    _, hy, hz = _halfway(light, vx, vy, vz)
    length = math.sqrt(ny * ny + nz * nz) + 1e-6
    along = (-nz * hy + ny * hz) / length
    narrow, wide = max(0.0, 1 - along * along) ** 40, max(0.0, 1 - along * along) ** 9
    facing = max(0.0, along_normal(at, light, KEY_DIRECTION) * 0.7 + 0.3)
    open_sky = 0.3 + 0.7 * depth
    edge = max(0.0, 1 - abs(nx * vx + ny * vy + nz * vz)) ** 2
    from_behind = edge * max(0.0, along_normal(at, light, RIM_DIRECTION) * 0.6 + 0.4)
    for k in range(3):
        colour = (
            surface.colours[_BEARD, k]
            if beard
            else surface.colours[_HAIR, k] * (1 - tip) + surface.colours[_HAIR_TIP, k] * tip
        )
        ambient = max(at[IRRADIANCE + k], 0.25 * light[SKY, k])
        diffuse = colour * (0.5 + strand) * open_sky * (ambient * 0.95 + light[KEY_COLOUR, k] * facing * lit)
        shine = (
            (0.05 * narrow * surface.numbers[_HAIR_GLOSS] + colour * 0.6 * wide)
            * light[KEY_COLOUR, k]
            * lit
            * open_sky
        )
        out[k] = (
            diffuse
            + shine * (0.4 + 0.9 * strand)
            + (colour * 0.5 + 0.02) * light[RIM_COLOUR, k] * from_behind
        )


@_inlined
def _shade_eye(out: Array, at: Array, light: Array, colour: Array, lit: float) -> None:
    """Wet ball: diffuse colour, a sharp key highlight and a faint reflection of the sky."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    vx, vy, vz = _towards_camera(at)
    hx, hy, hz = _halfway(light, vx, vy, vz)
    glint = 2.2 * max(0.0, nx * hx + ny * hy + nz * hz) ** 500
    facing = max(0.0, along_normal(at, light, KEY_DIRECTION))
    uncovered = min(1.0, at[OPENNESS] / 0.55)
    up = 0.5 + 0.5 * (2 * (nx * vx + ny * vy + nz * vz) * ny - vy)
    for k in range(3):
        sky = light[GROUND, k] * (1 - up) + light[SKY, k] * up
        body = colour[k] * (at[IRRADIANCE + k] * 0.95 + light[KEY_COLOUR, k] * facing * lit * 0.8)
        out[k] = (
            body * (0.35 + 0.65 * uncovered)
            + light[KEY_COLOUR, k] * glint * lit * 0.9
            + sky * 0.03 * uncovered
        )


@_inlined
def _shade_solid(
    out: Array,
    at: Array,
    light: Array,
    colour: Array,
    specular: float,
    roughness: float,
    bleed: float,
    lit: float,
) -> None:
    """Wrapped diffuse (red bleeds over the shadow edge of skin) plus two GGX lobes and a grazing reflection."""
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    vx, vy, vz = _towards_camera(at)
    nv = nx * vx + ny * vy + nz * vz
    if nv < 0:  # seen from inside
        nx, ny, nz, nv = nx - 2 * nv * vx, ny - 2 * nv * vy, nz - 2 * nv * vz, -nv
        at[NORMAL], at[NORMAL + 1], at[NORMAL + 2] = nx, ny, nz
    nv = max(0.05, nv)
    hx, hy, hz = _halfway(light, vx, vy, vz)
    nl = along_normal(at, light, KEY_DIRECTION)
    nl_rim = max(0.0, along_normal(at, light, RIM_DIRECTION))
    nh = max(0.0, nx * hx + ny * hy + nz * hz)
    vh = max(0.0, vx * hx + vy * hy + vz * hz)
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
            at[IRRADIANCE + k] + light[KEY_COLOUR, k] * diffuse + light[RIM_COLOUR, k] * nl_rim * openness
        )
        sky = light[GROUND, k] * (1 - up) + light[SKY, k] * up
        out[k] = colour[k] * received + light[KEY_COLOUR, k] * highlight + sky * mirror


@_inlined
def _tilt_by_relief(at: Array, u: float, v: float, bump: Array, relief: float) -> None:
    """Tilt the normal by the slope of the skin relief."""
    size = bump.shape[0]
    x, y = min(size - 2, max(0, int(u * size))), min(size - 2, max(0, int((1 - v) * size)))
    at[NORMAL] -= (bump[y, x + 1] - bump[y, x]) * relief
    at[NORMAL + 1] -= (bump[y, x] - bump[y + 1, x]) * relief
    normalize(at)


@_inlined
def normalize(at: Array) -> None:
    nx, ny, nz = at[NORMAL], at[NORMAL + 1], at[NORMAL + 2]
    q = 1 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    at[NORMAL], at[NORMAL + 1], at[NORMAL + 2] = nx * q, ny * q, nz * q


@_inlined
def _fill_mouth(at: Array, share: float, light: Array) -> None:
    """Light that lips and cheeks scatter into the mouth, less towards the throat; baking misses it."""
    share *= 0.15 + 0.85 * _ramp(at[REST + 2], 5.5, 10.0)
    for k in range(3):
        scattered = 0.45 * (light[SKY, k] + light[GROUND, k]) + 0.25 * light[KEY_COLOUR, k]
        tint = 1.0 if k == 0 else 0.88 if k == 1 else 0.84
        at[IRRADIANCE + k] = max(at[IRRADIANCE + k], share * scattered * tint)


@_inlined
def shade_sample(
    out: Array,
    part: int,
    u: float,
    v: float,
    at: Array,
    strand: float,
    depth: float,
    tip: float,
    lit: float,
    light: Array,
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
        specular, roughness, bleed = 0.028 * surface.numbers[_GLOSS], 0.42, 1.0
        _tilt_by_relief(at, u, v, surface.bump, surface.numbers[_RELIEF])
        if abs(at[REST]) < LIP_HALF_WIDTH and abs(at[REST + 1] - LIP_Y) < LIP_HALF_HEIGHT:
            specular, roughness = specular * 1.5, 0.34
    elif part == HEAD:
        specular, roughness, bleed = 0.02 * surface.numbers[_GLOSS], 0.42, 1.0
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

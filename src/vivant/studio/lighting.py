"""Light of a scene: a shadow-mapped key, a rim light and a soft environment in nine spherical harmonics.

The environment meets baked visibility (precomputed radiance transfer): each vertex stores how much of every
harmonic reaches it, so that soft ambient shadows cost one small product per vertex and frame.
Sloan et al., "Precomputed Radiance Transfer", SIGGRAPH 2002.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vivant.studio.raster import FAR, accumulate_visible, draw_depth

Array = NDArray[Any]

NUM_ENVIRONMENT_DIRECTIONS = 200
BAKE_SIZE = 320
BAKE_RADIUS_CM = 34.0
BAKE_CENTRE = np.array([0.0, -8.0, 0.0], np.float32)
SHADOW_SIZE = 512
SHADOW_RADIUS_CM = 32.0
SHADOW_CENTRE = np.array([0.0, -6.0, 0.0], np.float32)


# Rows of a packed light, in the order of `Light`.
KEY_DIRECTION, KEY_COLOUR, RIM_DIRECTION, RIM_COLOUR, SKY, GROUND = range(6)


class Light(NamedTuple):
    """What the shader needs each frame; directions point towards the light, in camera axes."""

    key_direction: Array
    key_colour: Array
    rim_direction: Array
    rim_colour: Array
    sky: Array
    ground: Array
    exposure: float


def pack_light(light: Light) -> Array:
    """Directions and colours of a light in one array [6, 3], as the shader takes them."""
    return np.array(light[:6], np.float64)


class Environment(NamedTuple):
    """Ambient light from all around: colours [D, 3] of the directions [D, 3]."""

    directions: Array
    colours: Array


def sphere_directions(count: int) -> Array:
    """`count` directions [count, 3] spread evenly over the sphere (Fibonacci spiral)."""
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    rings = np.stack([np.cos(azimuth) * np.sin(polar), np.cos(polar), np.sin(azimuth) * np.sin(polar)], -1)
    return rings.astype(np.float32)


def harmonics(directions: Array) -> Array:
    """First nine real spherical harmonics [D, 9] of unit directions [D, 3]."""
    x, y, z = directions.T
    basis = [
        0.282095 + 0 * x,
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    ]
    return np.stack(basis, -1).astype(np.float32)


def environment_harmonics(environment: Environment, rotation: Array) -> Array:
    """Coefficients [9, 3] of the environment seen in the frame of a body rotated by `rotation` [3, 3]."""
    weights = harmonics(environment.directions @ rotation)
    per_direction = 4 * np.pi / len(environment.directions)
    return np.asarray(np.einsum("dk,dc->kc", weights, environment.colours) * per_direction, np.float32)


def orthographic(direction: Array, centre: Array, radius: float, size: int) -> Array:
    """Affine map [3, 4] from space to (pixel x, pixel y, depth in 0..1) of a light looking along -direction."""
    z = direction / np.linalg.norm(direction)
    up = np.array([0.0, 1.0, 0.0]) if abs(z[1]) < 0.95 else np.array([1.0, 0.0, 0.0])
    x = np.cross(up, z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    rows = np.stack([x, y, -z]) / radius * 0.5
    matrix = np.concatenate([rows, (0.5 - rows @ centre)[:, None]], 1)
    matrix[:2] *= size
    return matrix.astype(np.float32)


def light_screen(points: Array, matrix: Array) -> Array:
    """Points [V, 3] through an `orthographic` map."""
    return np.asarray(points @ matrix[:, :3].T + matrix[:, 3], np.float32)


def bake_transfer(vertices: Array, normals: Array, occluders: Array, num_directions: int) -> Array:
    """Share of each spherical harmonic that reaches each vertex past the occluding triangles: [V, 9].

    A surface with nothing around it, in white light of strength 1, ends up with irradiance / pi = 1.
    """
    directions = sphere_directions(num_directions)
    basis = harmonics(directions)
    transfer = np.zeros((len(vertices), 9), np.float32)
    depth = np.empty((BAKE_SIZE, BAKE_SIZE), np.float32)
    raised = vertices + 0.12 * normals
    for direction, values in zip(directions, basis, strict=True):
        matrix = orthographic(direction, BAKE_CENTRE, BAKE_RADIUS_CM, BAKE_SIZE)
        depth.fill(FAR)
        draw_depth(light_screen(vertices, matrix), occluders, depth)
        cosine = (normals @ direction).astype(np.float32)
        accumulate_visible(light_screen(raised, matrix), depth, cosine, values, 0.004, transfer)
    return transfer * np.float32(4 / num_directions)


def shadow_map(vertices: Array, occluders: Array, direction: Array) -> tuple[Array, Array]:
    """Depth seen from the key light [SHADOW_SIZE, SHADOW_SIZE] and the map into it [3, 4]."""
    matrix = orthographic(direction, SHADOW_CENTRE, SHADOW_RADIUS_CM, SHADOW_SIZE)
    depth = np.full((SHADOW_SIZE, SHADOW_SIZE), FAR, np.float32)
    draw_depth(light_screen(vertices, matrix), occluders, depth)
    return depth, matrix


def _direction(azimuth_degrees: float, elevation_degrees: float) -> Array:
    azimuth, elevation = np.radians([azimuth_degrees, elevation_degrees])
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat])


def sample_light(rng: np.random.Generator) -> tuple[Light, Environment]:
    """A plausible indoor or outdoor light, exposed so that a grey card facing the camera is mid-grey."""
    directions = sphere_directions(NUM_ENVIRONMENT_DIRECTIONS)
    up = directions[:, 1:2]
    colours = np.full((len(directions), 3), rng.uniform(0.15, 0.4), np.float32)
    colours += np.clip(up, 0, 1) * rng.uniform(0.1, 0.5) * np.array([0.93, 1, 1.08])
    colours += np.clip(-up, 0, 1) * rng.uniform(0, 0.2) * np.array([1.1, 1, 0.85])
    if rng.uniform() < 0.6:  # a window or lamp as a broad patch
        patch = _direction(rng.uniform(-110, 110), rng.uniform(-5, 45))
        tint = 1 + rng.uniform(-0.22, 0.22) * np.array([1, 0, -1])
        colours += (
            np.exp((directions @ patch - 1)[:, None] * rng.uniform(3, 10)) * tint * rng.uniform(0.2, 1.3)
        )
    key = _direction(rng.uniform(-65, 65), rng.uniform(0, 55))
    strength = rng.uniform(0.1, 0.55) if rng.uniform() < 0.4 else rng.uniform(0.5, 1.1)
    key_colour = (1 + rng.uniform(-0.2, 0.2) * np.array([1, 0, -1])) * strength
    rim = _direction(rng.choice([-1, 1]) * rng.uniform(100, 150), rng.uniform(10, 40))
    rim_strength = rng.uniform(0, 0.7) if rng.uniform() < 0.6 else 0.0
    environment = Environment(directions, colours.astype(np.float32))
    facing = np.clip(directions[:, 2], 0, 1)
    ambient = 4 * (colours.mean(1) * facing).mean()
    received = ambient + strength * max(0.2, key[2]) * 0.9
    light = Light(
        key,
        key_colour,
        rim,
        np.full(3, rim_strength),
        colours[up[:, 0] > 0].mean(0).astype(np.float64),
        colours[up[:, 0] < 0].mean(0).astype(np.float64),
        float(rng.uniform(0.72, 1.1) / received),
    )
    return light, environment

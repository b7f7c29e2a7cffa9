"""Shading, antialiasing and glass on a made-up square; needs no face model."""

from __future__ import annotations

import numpy as np

from vivant.studio.glass import look_through
from vivant.studio.lighting import Light, pack_light
from vivant.studio.materials import IRRADIANCE, NORMAL, NUM_VARYINGS, OPENNESS, POSITION, SHADOW
from vivant.studio.parts import Part
from vivant.studio.shading import resolve, shade
from vivant.studio.surface import Colour, Number, Surface

SIZE = 16
SCREEN = np.array([[4, 4, 100], [12, 4, 100], [12, 12, 100], [4, 12, 100]], np.float32)
TRIANGLES = np.array([[0, 2, 1], [0, 3, 2]], np.int32)
GREY = np.full(3, 0.5)


def light(key: float, ambient: float) -> np.ndarray:
    towards = np.array([0.0, 0, 1])
    return pack_light(
        Light(towards, np.full(3, key), towards, np.zeros(3), np.full(3, ambient), np.full(3, ambient), 1.0)
    )


def surface() -> Surface:
    image = np.full((4, 4, 3), 0.5, np.float32)
    colours = np.tile(GREY, (len(Colour), 1))
    numbers = np.zeros(len(Number))
    numbers[[Number.LIMBUS, Number.PUPIL]] = 0.12, 0.04
    noise = np.zeros((4, 4), np.float32)
    return Surface(image, image, image, image, noise, noise, colours, numbers)


def shaded(part: Part, key: float, irradiance: float, shadow_depth: float = 1.0) -> np.ndarray:
    ids = np.full((SIZE, SIZE), -1, np.int32)
    for y in range(4, 12):
        for x in range(4, 12):
            ids[y, x] = 0 if x > y else 1
    varyings = np.zeros((4, NUM_VARYINGS), np.float32)
    varyings[:, POSITION + 2] = -100
    varyings[:, NORMAL + 2] = 1
    varyings[:, IRRADIANCE : IRRADIANCE + 3] = irradiance
    varyings[:, OPENNESS] = 1
    varyings[:, SHADOW : SHADOW + 3] = [4, 4, 0.5]
    radiance = np.full((SIZE, SIZE, 4), np.nan, np.float32)
    shade(
        ids,
        np.full((SIZE, SIZE), 128, np.uint8),
        SCREEN,
        varyings,
        TRIANGLES,
        np.full(2, part, np.uint8),
        np.full((2, 3, 2), 0.5, np.float32),
        np.ones(2, np.float32),
        light(key, 0.0),
        surface(),
        np.full((8, 8), shadow_depth, np.float32),
        radiance,
    )
    return radiance


def test_ambient_light_times_colour() -> None:
    for part in (Part.CLOTHES, Part.JEWELLERY, Part.FACE, Part.HAT):
        radiance = shaded(part, key=0.0, irradiance=0.8)
        np.testing.assert_allclose(radiance[4:12, 4:12, :3], 0.4, atol=0.01)
        assert radiance[4:12, 4:12, 3].min() == 1
        assert radiance[:4].max() == radiance[12:].max() == 0


def test_every_part_has_a_material() -> None:
    for part in Part:
        radiance = shaded(part, key=0.7, irradiance=0.5)
        assert np.isfinite(radiance).all()
        assert radiance[8, 8, :3].min() > 0


def test_shadow_takes_the_key_light_away() -> None:
    bright = shaded(Part.CLOTHES, key=1.0, irradiance=0.1)[8, 8, 0]
    dark = shaded(Part.CLOTHES, key=1.0, irradiance=0.1, shadow_depth=0.1)[8, 8, 0]
    assert dark < 0.15 * bright


def test_resolving_averages_premultiplied_samples() -> None:
    radiance = np.zeros((4, 4, 4), np.float32)
    radiance[:2, :2] = 1
    radiance[0, 2] = 1
    image = resolve(radiance, 1.0)
    assert image.shape == (2, 2, 4)
    assert image[0, 0, 3] == 255
    assert image[0, 1, 3] == 64
    assert abs(int(image[0, 1, 0]) - int(image[0, 0, 0]) / 4) <= 1
    assert image[1].max() == 0
    assert (resolve(radiance, 2.0)[0, 0, :3] > image[0, 0, :3]).all()


def test_glass_tints_what_is_behind_it_only() -> None:
    for lens_depth, tinted in ((90.0, True), (110.0, False)):
        radiance = shaded(Part.CLOTHES, key=0.0, irradiance=0.8)
        before = radiance.copy()
        screen = SCREEN.copy()
        screen[:, 2] = lens_depth
        positions = np.array([[-1, 1, -90], [1, 1, -90], [1, -1, -90], [-1, -1, -90]], np.float32)
        normals = np.tile(np.array([0, 0, 1], np.float32), (4, 1))
        depth = np.where(before[..., 3] > 0, 100.0, 1e9).astype(np.float32)
        look_through(screen, positions, normals, TRIANGLES, np.full(3, 0.25), light(0.0, 0.0), depth, radiance,
                     np.zeros((2, 3)))  # fmt: skip
        share = 0.25 if tinted else 1.0
        np.testing.assert_allclose(radiance[5:11, 5:11, :3], share * before[5:11, 5:11, :3], rtol=1e-3)
        assert (radiance[:4] == before[:4]).all()

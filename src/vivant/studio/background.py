"""Procedural backgrounds: rooms with walls, windows, shelves and pictures, studio gradients and outdoor blur.

Display space, f32 [S, S, 3] in 0..1. Everything behind a portrait is out of focus to some degree.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vivant.studio.albedo import cloud

Array = NDArray[Any]


def _muted(rng: np.random.Generator, low: float = 0.1, high: float = 0.9) -> Array:
    """A random colour, mostly of low saturation."""
    colour = rng.uniform(low, high, 3)
    return np.asarray(colour.mean() + (colour - colour.mean()) * rng.beta(1.1, 3.5), np.float32)


def _noise(size: int, rng: np.random.Generator, base: int) -> Array:
    grid = cv2.resize(cloud(256, rng, 4, 0.6, base), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grid, np.float32)


def _box(image: Array, left: float, top: float, right: float, bottom: float, colour: Array) -> None:
    """Fill a box given in shares of the image."""
    size = image.shape[0]
    corners = [round(value * size) for value in (left, top, right, bottom)]
    cv2.rectangle(image, (corners[0], corners[1]), (corners[2], corners[3]), tuple(map(float, colour)), -1)


def gradient(size: int, rng: np.random.Generator) -> Array:
    """A photographer's paper roll: soft vignette or slanted gradient."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    if rng.uniform() < 0.5:
        share = np.clip(1.6 * np.hypot(x - rng.normal() * 0.15, y - rng.normal() * 0.15), 0, 1)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        share = np.clip(0.5 + np.cos(angle) * x + np.sin(angle) * y, 0, 1)
    near = _muted(rng)
    far = near * rng.uniform(0.3, 0.95) if rng.uniform() < 0.6 else _muted(rng)
    image = near * (1 - share[..., None]) + far * share[..., None]
    return np.asarray(image + 0.015 * _noise(size, rng, 8)[..., None], np.float32)


def _window(image: Array, rng: np.random.Generator) -> None:
    left, top = rng.uniform(-0.2, 0.8), rng.uniform(-0.2, 0.2)
    width, height = rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.8)
    frame, sky = _muted(rng, 0.5, 1.0), np.clip(rng.uniform(0.6, 1.0) + rng.normal(size=3) * 0.06, 0, 1)
    _box(image, left - 0.02, top - 0.02, left + width + 0.02, top + height + 0.02, frame)
    panes = int(rng.integers(1, 4))
    for i in range(panes):
        step = width / panes
        _box(image, left + i * step + 0.008, top, left + (i + 1) * step - 0.008, top + height, sky)
        ground = np.clip(np.array([0.35, 0.5, 0.3]) * rng.uniform(0.5, 1.5, 3), 0, 1)
        _box(
            image,
            left + i * step + 0.008,
            top + height * 0.7,
            left + (i + 1) * step - 0.008,
            top + height,
            ground,
        )
    if rng.uniform() < 0.4:
        curtain = _muted(rng)
        for side in (left - 0.08, left + width - 0.02):
            _box(image, side, top - 0.05, side + 0.1, top + height + 0.1, curtain)


def _shelf(image: Array, rng: np.random.Generator) -> None:
    left, top, width = rng.uniform(-0.2, 0.8), rng.uniform(-0.1, 0.5), rng.uniform(0.25, 0.6)
    rows, pitch = int(rng.integers(1, 5)), rng.uniform(0.14, 0.24)
    wood, back = _muted(rng, 0.1, 0.7), _muted(rng, 0.05, 0.6)
    _box(image, left, top, left + width, top + rows * pitch, back)
    for row in range(rows):
        floor = top + (row + 1) * pitch
        x = left + 0.01
        while x < left + width - 0.03:
            book = rng.uniform(0.012, 0.045)
            if rng.uniform() < 0.85:
                _box(
                    image, x, floor - pitch * rng.uniform(0.4, 0.85), x + book, floor, _muted(rng, 0.05, 0.9)
                )
            x += book + rng.uniform(0, 0.01)
        _box(image, left, floor, left + width, floor + 0.015, wood)
    for side in (left - 0.012, left + width):
        _box(image, side, top, side + 0.012, top + rows * pitch + 0.015, wood)


def _picture(image: Array, rng: np.random.Generator) -> None:
    left, top = rng.uniform(-0.1, 0.9), rng.uniform(0.02, 0.45)
    width, height = rng.uniform(0.1, 0.3), rng.uniform(0.1, 0.3)
    _box(image, left, top, left + width, top + height, _muted(rng, 0.05, 0.9))
    _box(image, left + 0.015, top + 0.015, left + width - 0.015, top + height - 0.015, _muted(rng, 0.6, 1.0))
    for _ in range(rng.integers(1, 6)):
        x, y = left + rng.uniform(0.03, 0.9) * width * 0.8, top + rng.uniform(0.1, 0.7) * height
        _box(image, x, y, min(left + width - 0.02, x + rng.uniform(0.02, 0.1)), y + height * 0.2, _muted(rng))


def _plant(image: Array, rng: np.random.Generator) -> None:
    size = image.shape[0]
    foot = np.array([rng.uniform(0, 1), rng.uniform(0.6, 1.0)])
    for _ in range(rng.integers(15, 50)):
        tip = foot + np.array([rng.normal() * 0.09, -abs(rng.normal()) * 0.2])
        green = np.clip(np.array([0.2, 0.4, 0.15]) * rng.uniform(0.3, 1.6), 0, 1)
        middle = tuple(((foot + tip) / 2 * size).astype(int).tolist())
        axes = (
            max(1, int(np.linalg.norm(tip - foot) * size / 2)),
            max(1, int(size * rng.uniform(0.005, 0.02))),
        )
        angle = float(np.degrees(np.arctan2(tip[1] - foot[1], tip[0] - foot[0])))
        cv2.ellipse(image, middle, axes, angle, 0, 360, tuple(map(float, green)), -1)


def room(size: int, rng: np.random.Generator) -> Array:
    """A room: lit wall, perhaps a corner or wainscot, and furniture, blurred by distance."""
    wall = _muted(rng, 0.25, 0.95)
    image = np.empty((size, size, 3), np.float32)
    image[:] = wall
    if rng.uniform() < 0.35:
        corner = rng.uniform(0.1, 0.9)
        _box(image, corner, 0, 1, 1, wall * rng.uniform(0.7, 0.95))
    if rng.uniform() < 0.3:
        _box(image, 0, rng.uniform(0.6, 0.85), 1, 1, _muted(rng, 0.1, 0.8))
    if rng.uniform() < 0.2:  # wallpaper or boards
        pitch = rng.uniform(0.03, 0.12)
        for x in np.arange(0, 1, pitch):
            _box(image, x, 0, x + pitch * 0.5, 1, wall * rng.uniform(0.93, 0.97))
    for draw, probability in ((_shelf, 0.4), (_window, 0.4), (_picture, 0.5), (_picture, 0.3), (_plant, 0.3)):
        if rng.uniform() < probability:
            draw(image, rng)
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    lamp = np.exp(
        -((x - rng.uniform(-0.8, 0.8)) ** 2 + (y - rng.uniform(-0.8, 0.3)) ** 2) / rng.uniform(0.2, 1.0)
    )
    tint = 1 + rng.uniform(-0.12, 0.12) * np.array([1, 0.2, -1])
    image = image * (rng.uniform(0.35, 0.9) + rng.uniform(0.1, 0.6) * lamp[..., None]) * tint
    image = image + 0.01 * _noise(size, rng, 32)[..., None]
    return np.asarray(
        cv2.GaussianBlur(image, (0, 0), size * float(rng.choice([0.003, 0.008, 0.02, 0.04]))), np.float32
    )


def outdoors(size: int, rng: np.random.Generator) -> Array:
    """Strongly blurred greenery, sky or street with round highlights."""
    horizon = rng.uniform(0.2, 0.8)
    sky, ground = np.array([0.6, 0.72, 0.85]) * rng.uniform(0.6, 1.2), _muted(rng, 0.1, 0.6)
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    image = np.where(y < horizon, sky, ground) * np.ones((1, size, 1))
    texture = _noise(size, rng, 6)[..., None] * np.array([0.07, 0.08, 0.06]) * rng.uniform(0.4, 1.2)
    image = np.ascontiguousarray(image + texture, np.float32)
    for _ in range(rng.integers(0, 25)):
        centre = tuple((rng.uniform(0, 1, 2) * size).astype(int).tolist())
        disc = np.zeros((size, size), np.float32)
        cv2.circle(disc, centre, int(size * rng.uniform(0.01, 0.05)), 1.0, -1)
        image += disc[..., None] * _muted(rng, 0.1, 0.6) * rng.uniform(0.2, 0.8)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), size * rng.uniform(0.01, 0.04)), np.float32)


def sample_background(size: int, rng: np.random.Generator) -> Array:
    """A random background f32 [size, size, 3] in 0..1, display space."""
    kind = rng.choice(3, p=[0.25, 0.55, 0.2])
    image = (gradient, room, outdoors)[kind](size, rng)
    return np.clip(image, 0, 1).astype(np.float32)


def compose(rgba: Array, background: Array) -> Array:
    """Put a premultiplied frame u8 [S, S, 4] in front of a background f32 [S, S, 3]: u8 [S, S, 3]."""
    behind = 1 - rgba[..., 3:].astype(np.float32) / 255
    return np.clip(np.rint(rgba[..., :3] + 255 * background * behind), 0, 255).astype(np.uint8)

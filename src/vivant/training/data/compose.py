"""Pictures out of session frames: crop, turn, put in front of a background, grade the colour. One pass, numba."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np


@dataclass(frozen=True)
class Window:
    """A square crop of a rendered picture, possibly turned."""

    x: float
    """Centre in pixels of the rendered picture."""
    y: float
    side: float
    """Pixels of the rendered picture."""
    angle: float = 0.0
    """Radians; positive turns the head clockwise in the crop."""

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Rendered pixels (..., 2) -> crop units, whole crop = [-1, 1]."""
        offset = (points - np.array([self.x, self.y], np.float32)) * np.float32(2 / self.side)
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        x = cos * offset[..., 0] - sin * offset[..., 1]
        y = sin * offset[..., 0] + cos * offset[..., 1]
        return np.stack([x, y], -1).astype(np.float32)

    def rotation(self) -> np.ndarray:
        """The turn as a row-vector rotation (3, 3) about the line of sight (x right, y down, z inward)."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], np.float32)


@dataclass(frozen=True)
class Grade:
    """A colour treatment shared by the pictures of a pair."""

    matrix: np.ndarray  # (3, 3)
    table: np.ndarray  # (3, 256) uint8, applied after the matrix
    blur_px: float
    noise: float
    jpeg_quality: int  # 0: none


NEUTRAL = Grade(np.eye(3, dtype=np.float32), np.tile(np.arange(256, dtype=np.uint8), (3, 1)), 0.0, 0.0, 0)


def random_grade(rng: np.random.Generator) -> Grade:
    """Exposure, white balance, gamma, saturation, contrast, a little channel mixing; then blur, grain, JPEG."""
    luma = np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.06 else rng.uniform(0.4, 1.45)
    matrix = np.eye(3, dtype=np.float32) * saturation + (1 - saturation) * np.tile(luma, (3, 1))
    if rng.random() < 0.12:
        matrix = matrix @ (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    gain = rng.uniform(0.82, 1.15) * np.exp(rng.normal(size=3) * 0.06)
    gamma = float(np.exp(rng.normal() * 0.18))
    contrast, offset = rng.uniform(0.82, 1.18), rng.normal() * 7
    level = np.arange(256, dtype=np.float32)
    graded = ((level - 128) * contrast + 128 + offset)[None] * gain[:, None]
    table = (np.clip(graded, 0, 255) / 255) ** gamma * 255
    return Grade(
        matrix.astype(np.float32),
        np.clip(table + 0.5, 0, 255).astype(np.uint8),
        float(rng.uniform(0.3, 1.2)) if rng.random() < 0.25 else 0.0,
        float(rng.uniform(1, 8)) if rng.random() < 0.35 else 0.0,
        int(rng.integers(40, 93)) if rng.random() < 0.3 else 0,
    )


@numba.njit(cache=True, nogil=True, fastmath=True)
def _compose(rgba, background, cx, cy, side, angle, taps, matrix, table, out, alpha):  # type: ignore[no-untyped-def]
    n, s = out.shape[0], rgba.shape[0]
    step = side / n
    cos, sin = np.cos(angle), np.sin(angle)
    inverse = 1.0 / (taps * taps)
    for v in range(n):
        for u in range(n):
            r = g = b = a = 0.0
            for i in range(taps):
                for j in range(taps):
                    du = (u + (j + 0.5) / taps - 0.5 * n) * step
                    dv = (v + (i + 0.5) / taps - 0.5 * n) * step
                    x = min(max(cx + cos * du + sin * dv - 0.5, 0.0), s - 1.001)
                    y = min(max(cy - sin * du + cos * dv - 0.5, 0.0), s - 1.001)
                    xi, yi = int(x), int(y)
                    fx, fy = x - xi, y - yi
                    w00, w01 = (1 - fx) * (1 - fy), fx * (1 - fy)
                    w10, w11 = (1 - fx) * fy, fx * fy
                    p, q = rgba[yi, xi], rgba[yi, xi + 1]
                    t, z = rgba[yi + 1, xi], rgba[yi + 1, xi + 1]
                    r += p[0] * w00 + q[0] * w01 + t[0] * w10 + z[0] * w11
                    g += p[1] * w00 + q[1] * w01 + t[1] * w10 + z[1] * w11
                    b += p[2] * w00 + q[2] * w01 + t[2] * w10 + z[2] * w11
                    a += p[3] * w00 + q[3] * w01 + t[3] * w10 + z[3] * w11
            cover = a * inverse / 255.0
            see = 1.0 - cover
            r = r * inverse + background[v, u, 0] * see
            g = g * inverse + background[v, u, 1] * see
            b = b * inverse + background[v, u, 2] * see
            alpha[v, u] = np.uint8(cover * 255.0 + 0.5)
            for k in range(3):
                value = matrix[k, 0] * r + matrix[k, 1] * g + matrix[k, 2] * b
                out[v, u, k] = table[k, int(min(max(value + 0.5, 0.0), 255.0))]


def compose(
    rgba: np.ndarray, background: np.ndarray, window: Window, grade: Grade, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frame (S, S, 4) premultiplied over background (n, n, 3) -> picture (n, n, 3) and coverage (n, n), uint8."""
    n = len(background)
    out, alpha = np.empty((n, n, 3), np.uint8), np.empty((n, n), np.uint8)
    taps = 1 if window.side / n < 1.4 else 2
    _compose(
        rgba,
        background,
        window.x,
        window.y,
        window.side,
        window.angle,
        taps,
        grade.matrix,
        grade.table,
        out,
        alpha,
    )
    if grade.blur_px:
        out = np.asarray(cv2.GaussianBlur(out, (0, 0), grade.blur_px * n / 256), np.uint8)
    if grade.noise:
        grain = rng.standard_normal((n, n, 1), np.float32) * np.float32(grade.noise)
        out = np.clip(out + grain, 0, 255).astype(np.uint8)
    if grade.jpeg_quality:
        coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, grade.jpeg_quality])[1]
        out = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return out, alpha

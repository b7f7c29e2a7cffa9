"""Lines over frames as a picture, drawn with OpenCV: enough to see drift, and no plotting library."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

WIDTH_PX, HEIGHT_PX = 960, 320
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 70, 260, 30, 40
INK, GRID, PAPER = (30, 30, 30), (215, 215, 215), 255
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))
MAX_LABELS = 18
"""Names beside the lines; what is beyond is drawn without."""
NUM_TICKS = 5
_FONT, _SMALL = cv2.FONT_HERSHEY_SIMPLEX, 0.4


def plot(lines: Mapping[str, np.ndarray], *, title: str) -> np.ndarray:
    """uint8 RGB of lines (P, 2) of frame index and value by name; gaps where a value is nan."""
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), PAPER, np.uint8)
    points = np.concatenate(
        [np.asarray(line, np.float64).reshape(-1, 2) for line in lines.values()] or [np.zeros((0, 2))]
    )
    points = points[np.isfinite(points).all(1)]
    _write(picture, title, (LEFT_PX, 18))
    if not len(points):
        _write(picture, "nothing to draw", (LEFT_PX, HEIGHT_PX // 2))
        return picture
    low, high = points.min(0), points.max(0)
    low[0] = min(low[0], 0)
    # A constant line lies in the middle of a range of its own.
    flat = high - low < 1e-9
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    _draw_axes(picture, low, high)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        _draw_line(picture, np.asarray(line, np.float64).reshape(-1, 2), low, high, colour)
        if number < MAX_LABELS:
            _write(picture, name, (WIDTH_PX - RIGHT_PX + 10, TOP_PX + 4 + 14 * number), colour)
    return picture


def _place(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Pixels (P, 2) of frame indices and values."""
    share = (points - low) / (high - low)
    x = LEFT_PX + share[:, 0] * (WIDTH_PX - LEFT_PX - RIGHT_PX)
    y = HEIGHT_PX - BOTTOM_PX - share[:, 1] * (HEIGHT_PX - TOP_PX - BOTTOM_PX)
    return np.stack([x, y], 1)


def _draw_axes(picture: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    for share in np.linspace(0, 1, NUM_TICKS):
        at = low + share * (high - low)
        x, y = _place(at[None], low, high)[0].round().astype(int).tolist()
        cv2.line(picture, (LEFT_PX, y), (WIDTH_PX - RIGHT_PX, y), GRID, 1)
        _write(picture, f"{at[1]:.3g}", (8, y + 4))
        _write(picture, f"{at[0]:.0f}", (x - 8, HEIGHT_PX - BOTTOM_PX + 18))
    bottom, right = HEIGHT_PX - BOTTOM_PX, WIDTH_PX - RIGHT_PX
    cv2.line(picture, (LEFT_PX, TOP_PX), (LEFT_PX, bottom), INK, 1)
    cv2.line(picture, (LEFT_PX, bottom), (right, bottom), INK, 1)
    _write(picture, "frame", (right - 40, HEIGHT_PX - 6))


def _draw_line(
    picture: np.ndarray, line: np.ndarray, low: np.ndarray, high: np.ndarray, colour: tuple[int, int, int]
) -> None:
    known = np.isfinite(line).all(1)
    placed = _place(np.where(known[:, None], line, 0), low, high).round().astype(int)
    for i in range(len(line) - 1):
        if known[i] and known[i + 1]:
            cv2.line(picture, placed[i].tolist(), placed[i + 1].tolist(), colour, 1, cv2.LINE_AA)
    if len(line) == 1 and known[0]:
        cv2.circle(picture, placed[0].tolist(), 2, colour, -1)


def _write(picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int] = INK) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's letters
    cv2.putText(picture, plain, at, _FONT, _SMALL, colour, 1, cv2.LINE_AA)

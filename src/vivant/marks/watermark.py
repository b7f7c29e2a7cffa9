"""An invisible watermark: a tile of signs, spread over the picture again and again, as strong as texture hides it.

    tile (128 px = 32 x 32 cells of 4 px): 376 cells say "here I am", 648 carry the 108 signs of the payload, 6 each
    marked = picture + strength(texture) * tile, the same on red, green and blue

Finding it: take away what is smooth, divide by the local contrast, fold all tiles onto one, and look for the known
signs at every shift and scale. A picture that was not marked cannot know the signs, which were drawn at random: by
Hoeffding's inequality the chance that one shift at one scale scores z or more is below exp(-z**2 / 2) (Hoeffding 1963,
theorem 2, for a fixed picture and random signs), and THRESHOLD makes the sum of all shifts and scales less than 1e-6;
the checksum of the payload comes on top. The signs are in this file for all to see: the mark says that a picture is
synthetic, not who made it, and who knows the file can take it out or put it on (docs/marks.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vivant.marks import code

TILE_PX, CELL_PX = 128, 4
_CELLS = TILE_PX // CELL_PX
_SIGNS_EACH = 6
NUM_PILOTS = _CELLS**2 - code.NUM_SIGNS * _SIGNS_EACH
_SEED = 20261125

FLAT, PER_TEXTURE, STRONGEST = 1.5, 0.3, 4.5
"""Strength in grey levels of 255: where nothing is, what each level of local contrast adds, and the most."""
_TEXTURE_PX = 9
_SMOOTH_PX, _CONTRAST_PX, _QUIETEST, _LOUDEST = 5, 9, 3.0, 1.5

SMALLEST_SCALE, LARGEST_SCALE, SCALE_STEP = 0.48, 2.05, 0.003
MISTAKES = 1e-6
"""Of all pictures that were never marked, at most this share is said to be."""
MIN_SIDE_PX = TILE_PX
MAX_SEARCH_PX = 1280
"""Larger pictures are searched in their middle part."""


@dataclass(frozen=True)
class Found:
    """What the search says."""

    is_marked: bool
    payload: int | None
    """None where there is a mark whose payload cannot be read, or no mark."""
    score: float
    """z of the best place; THRESHOLD or more means marked."""
    scale: float
    """Of the picture relative to when it was marked."""


def scales() -> np.ndarray:
    """Those that are tried, the likely ones first: 1, then outwards."""
    count = int(np.ceil(np.log(LARGEST_SCALE / SMALLEST_SCALE) / SCALE_STEP))
    grid = SMALLEST_SCALE * np.exp(np.arange(count + 1) * SCALE_STEP)
    grid = np.append(grid, 1.0)
    return grid[np.argsort(np.abs(np.log(grid)), kind="stable")]


NUM_LOOKS = 2
"""At all frames of a clip together, and at its first alone: codecs keep more of a key frame."""
NUM_HYPOTHESES = NUM_LOOKS * len(scales()) * TILE_PX**2
THRESHOLD = float(np.sqrt(2 * np.log(NUM_HYPOTHESES / MISTAKES)))


class Marker:
    """Marks pictures with one payload; the same picture always becomes the same."""

    def __init__(self, payload: int) -> None:
        self.payload = payload
        self._tile = _tile(payload)
        self._spread = np.zeros((0, 0), np.float32)

    def mark(self, image: np.ndarray) -> np.ndarray:
        """A marked copy of a picture, uint8 RGB (H, W, 3)."""
        height, width = image.shape[:2]
        if self._spread.shape != (height, width):
            rows, columns = (-(-side // TILE_PX) for side in (height, width))
            self._spread = np.ascontiguousarray(np.tile(self._tile, (rows, columns))[:height, :width])
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        rough = cv2.absdiff(grey, cv2.blur(grey, (_TEXTURE_PX, _TEXTURE_PX)))
        strength = cv2.blur(rough, (_TEXTURE_PX, _TEXTURE_PX), dst=None).astype(np.float32)
        strength = np.minimum(strength * PER_TEXTURE + FLAT, STRONGEST)
        change = np.rint(self._spread * strength).astype(np.int16)
        return cv2.add(image, cv2.merge([change] * 3), dtype=cv2.CV_8U)


def find(images: Iterable[np.ndarray]) -> Found:
    """Look for a mark in pictures of one size that carry the same one: a still, or frames of a clip.

    uint8 RGB (H, W, 3). Raises ValueError where there is no picture.
    """
    residuals = (_residual(_middle(image)) for image in images)
    first = next(residuals, None)
    if first is None:
        raise ValueError("there is no picture to look at")
    total = sum(residuals, first)
    together = _found(total)
    if together.payload is not None or total is first:
        return together
    return max(together, _found(first), key=lambda found: (found.payload is not None, found.score))


def _found(total: np.ndarray) -> Found:
    best, where = _best_of(total, scales(), THRESHOLD)
    if best.score < THRESHOLD or where is None:
        return best
    finer = best.scale * np.exp(np.linspace(-4, 4, 25) * SCALE_STEP)
    best, where = _best_of(total, np.append(best.scale, finer), np.inf)
    assert where is not None
    return Found(True, code.decode(_soft_signs(*where)), best.score, best.scale)


def _best_of(
    total: np.ndarray, tried: np.ndarray, enough: float
) -> tuple[Found, tuple[np.ndarray, tuple[int, int, int, int]] | None]:
    """The best place at these scales, or the first whose score is `enough`; and that place."""
    best, where = Found(False, None, 0.0, 1.0), None
    for scale in tried:
        folded = _folded(total, float(scale))
        if folded is None:
            continue
        score, shift = _best_shift(folded)
        if score > best.score:
            best, where = Found(False, None, score, float(scale)), (folded, shift)
        if score >= enough:
            break
    return best, where


@lru_cache(maxsize=1)
def _plan() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signs of all cells (1024,), which cells are pilots (376,), which carry each sign of the code (108, 6)."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    signs = random.integers(0, 2, _CELLS**2).astype(np.float32) * 2 - 1
    order = random.permutation(_CELLS**2)
    return signs, order[:NUM_PILOTS], order[NUM_PILOTS:].reshape(code.NUM_SIGNS, _SIGNS_EACH)


def _tile(payload: int) -> np.ndarray:
    """float32 (128, 128) in [-1, 1]."""
    signs, _, carriers = _plan()
    cells = signs.copy()
    cells[carriers] *= code.encode(payload)[:, None]
    whole = np.kron(cells.reshape(_CELLS, _CELLS), np.ones((CELL_PX, CELL_PX), np.float32))
    padded = np.pad(whole, CELL_PX, mode="wrap")
    softer = cv2.GaussianBlur(padded, (5, 5), 0.8)
    return np.ascontiguousarray(softer[CELL_PX:-CELL_PX, CELL_PX:-CELL_PX])


def _middle(image: np.ndarray) -> np.ndarray:
    rows, columns = (max(0, side - MAX_SEARCH_PX) // 2 for side in image.shape[:2])
    return image[rows : rows + MAX_SEARCH_PX, columns : columns + MAX_SEARCH_PX]


def _residual(image: np.ndarray) -> np.ndarray:
    """float32 (H, W): what is not smooth, relative to how rough its surroundings are."""
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.blur(grey, (_SMOOTH_PX, _SMOOTH_PX))
    contrast = cv2.blur(np.abs(fine), (_CONTRAST_PX, _CONTRAST_PX)) + _QUIETEST
    return np.clip(fine / contrast, -_LOUDEST, _LOUDEST)


def _folded(residual: np.ndarray, scale: float) -> np.ndarray | None:
    """float32 (128, 128): the sum of all tiles of a picture that was scaled so; None where it is too small."""
    height, width = (round(side / scale) for side in residual.shape)
    if min(height, width) < MIN_SIDE_PX // 2:
        return None
    if (height, width) != residual.shape:
        residual = cv2.resize(residual, (width, height), interpolation=cv2.INTER_LINEAR)
    rows, columns = (-(-side // TILE_PX) for side in residual.shape)
    whole = np.zeros((rows * TILE_PX, columns * TILE_PX), np.float32)
    whole[:height, :width] = residual
    return whole.reshape(rows, TILE_PX, columns, TILE_PX).sum((0, 2))


def _cells_of(folded: np.ndarray) -> np.ndarray:
    """(4, 4, 32, 32): sums over cells whose grid begins at each of the 16 places within a cell."""
    wrapped = np.pad(folded, ((0, CELL_PX), (0, CELL_PX)), mode="wrap")
    sums = cv2.boxFilter(wrapped, -1, (CELL_PX, CELL_PX), anchor=(0, 0), normalize=False)[:TILE_PX, :TILE_PX]
    return sums.reshape(_CELLS, CELL_PX, _CELLS, CELL_PX).transpose(1, 3, 0, 2)


def _best_shift(folded: np.ndarray) -> tuple[float, tuple[int, int, int, int]]:
    """The highest z, and where: place within a cell, then cell."""
    signs, pilots, _ = _plan()
    known, places = np.zeros(_CELLS**2), np.zeros(_CELLS**2)
    known[pilots], places[pilots] = signs[pilots], 1
    cells = _cells_of(folded).astype(np.float64)

    def correlated(with_grid: np.ndarray, values: np.ndarray) -> np.ndarray:
        grid = np.fft.rfft2(with_grid.reshape(_CELLS, _CELLS))
        return np.fft.irfft2(np.fft.rfft2(values) * np.conj(grid), s=(_CELLS, _CELLS))

    energy = np.maximum(correlated(places, cells**2), 1e-9)
    z = correlated(known, cells) / np.sqrt(energy)
    y, x, row, column = (int(index) for index in np.unravel_index(int(np.argmax(z)), z.shape))
    return float(z[y, x, row, column]), (y, x, row, column)


def _soft_signs(folded: np.ndarray, shift: tuple[int, int, int, int]) -> np.ndarray:
    """(108,): how much the cells that carry each sign say that it is positive."""
    y, x, row, column = shift
    signs, _, carriers = _plan()
    cells = np.roll(_cells_of(folded)[y, x], (-row, -column), (0, 1)).reshape(-1)
    return (cells[carriers] * signs[carriers]).sum(1)

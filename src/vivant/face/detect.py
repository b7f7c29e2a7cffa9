"""Finding faces in a picture: a single-shot detector on the whole picture, and on tiles for small faces.

Decoding follows the short-range BlazeFace model (Bazarevsky et al., "BlazeFace", 2019). Pixel coordinates
count from the centre of the top-left pixel, as everywhere in this project.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vivant.face.models import DETECTOR, FaceNetwork

INPUT_PX = 128
# Feature maps as (stride in pixels, anchors per cell); all anchors are unit squares at the cell centres.
ANCHOR_LEVELS = ((8, 2), (16, 6))
NUM_POINTS = 6
OVERLAP_TO_MERGE = 0.3
# A box inside another (a part of the face taken for a face) is the same face.
CONTAINMENT_TO_MERGE = 0.6
SMALLEST_AREA = 1e-6

# Search for small faces: tiles in fractions of the longer side. The detector is sure of faces above a fifth of
# what it sees and suspects them above a twelfth, so suspects are looked at again, enlarged.
SURE_FRACTION = 0.2
TILE_FRACTIONS = (0.5, 0.25)
LARGE_IMAGE_PX = 400
SMALLEST_TILE_PX = 96
SUSPECT_SCORE = 0.3
MAX_SUSPECTS = 24
SIDES_AROUND_SUSPECT = 3.0
# Enlarged texture and body parts resemble faces, so suspects must be surer: this share of the way to 1.
EXTRA_SCORE_OF_SUSPECTS = 0.5


@dataclass(frozen=True)
class Detection:
    """One face. Left and right are as seen in the picture; pixel coordinates in the original picture."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1: from the brows to the chin."""
    score: float
    eye_left: tuple[float, float]
    eye_right: tuple[float, float]
    nose_tip: tuple[float, float]
    mouth: tuple[float, float]
    ear_left: tuple[float, float]
    ear_right: tuple[float, float]

    @property
    def area(self) -> float:
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0)

    @property
    def side_px(self) -> float:
        """Longer side of the box."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)

    @property
    def centre(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


class FaceDetector:
    """The detector network. Holds a network that is not thread-safe: one detector per thread."""

    def __init__(self) -> None:
        self._network = FaceNetwork(DETECTOR)

    def detect(self, image: np.ndarray, min_score: float = 0.5, *, tiles: bool = True) -> list[Detection]:
        """Faces in a uint8 RGB picture (height, width, 3), largest first: the index is the face's number.

        With `tiles`, small faces are searched on enlarged parts of large pictures as well.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected a uint8 (height, width, 3) picture, got {image.dtype} {image.shape}")
        found = self._candidates(image, min_score)
        if tiles and max(image.shape[:2]) >= LARGE_IMAGE_PX:
            found = self._with_small_faces(image, found, min_score)
        return [_detection(row) for row in _merge(found)]

    def _candidates(self, image: np.ndarray, min_score: float) -> np.ndarray:
        """Rows of score, box (4) and points (12), in pixels of `image`, before merging."""
        canvas, scale, left, top = _letterbox(image)
        seen = canvas.astype(np.float32) / 127.5 - 1
        logits, regressors = self._network(seen, "classificators", "regressors")
        scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
        keep = scores >= min_score
        raw, anchors = regressors[0][keep], _anchors()[keep]
        centres = raw[:, 0:2] + anchors
        halves = raw[:, 2:4] / 2
        points = raw[:, 4:].reshape(-1, NUM_POINTS, 2) + anchors[:, None]
        coordinates = np.concatenate(
            [centres - halves, centres + halves, points.reshape(-1, 2 * NUM_POINTS)], axis=1
        )
        offset = np.tile(np.array([left, top], np.float32), coordinates.shape[1] // 2)
        # Continuous coordinates of the canvas (edges of pixels) to pixel centres of the picture.
        coordinates = (coordinates - offset) / scale - 0.5
        return np.concatenate([scores[keep, None], coordinates], axis=1)

    def _with_small_faces(self, image: np.ndarray, found: np.ndarray, min_score: float) -> np.ndarray:
        """The large ones among the candidates, and confirmed candidates for smaller faces."""
        longer = max(image.shape[:2])
        is_large = found[:, 3] - found[:, 1] >= SURE_FRACTION * longer
        large, suspects = found[is_large], found[~is_large]
        for fraction in TILE_FRACTIONS:
            side = round(longer * fraction)
            if side < SMALLEST_TILE_PX:
                break
            on_tiles = [self._on_part(image, tile, SUSPECT_SCORE) for tile in _tiles(image, side)]
            # Not by containment yet: a large wrong suspect must not swallow a small right one.
            suspects = _merge(np.concatenate([suspects, *on_tiles]), containment=np.inf)
            found = np.concatenate([large, self._confirmed(image, suspects, min_score)])
            if len(found):
                break
        return found

    def _on_part(self, image: np.ndarray, part: tuple[int, int, int, int], min_score: float) -> np.ndarray:
        """Candidates in the part x0, y0, x1, y1 of the picture, in pixels of the whole."""
        x0, y0, x1, y1 = part
        rows = self._candidates(image[y0:y1, x0:x1], min_score)
        rows[:, 1:] += np.tile(np.array([x0, y0], np.float32), (rows.shape[1] - 1) // 2)
        return rows

    def _confirmed(self, image: np.ndarray, suspects: np.ndarray, min_score: float) -> np.ndarray:
        """Candidates around each suspect (best first), found with the suspect filling a third of the view."""
        height, width = image.shape[:2]
        sure = min_score + (1 - min_score) * EXTRA_SCORE_OF_SUSPECTS
        confirmed = []
        for row in suspects[np.argsort(-suspects[:, 0])][:MAX_SUSPECTS]:
            centre, half = (row[1:3] + row[3:5]) / 2, (row[3:5] - row[1:3]).max() * SIDES_AROUND_SUSPECT / 2
            x0, y0 = np.maximum(0, np.floor(centre - half)).astype(int)
            x1, y1 = np.minimum((width, height), np.ceil(centre + half)).astype(int)
            rows = self._on_part(image, (x0, y0, x1, y1), sure)
            confirmed.append(rows[_is_same_face(row, rows)] if len(rows) else rows)
        return np.concatenate(confirmed) if confirmed else suspects[:0]


@lru_cache(maxsize=1)
def _anchors() -> np.ndarray:
    """Centres (896, 2) of the anchors in pixels of the input."""
    centres = []
    for stride, per_cell in ANCHOR_LEVELS:
        cells = (np.arange(INPUT_PX // stride) + 0.5) * stride
        grid = np.stack(np.meshgrid(cells, cells), axis=-1).reshape(-1, 2)
        centres.append(np.repeat(grid, per_cell, axis=0))
    anchors = np.concatenate(centres).astype(np.float32)
    anchors.setflags(write=False)
    return anchors


def _letterbox(image: np.ndarray) -> tuple[np.ndarray, float, int, int]:
    """The picture on a black square of the input size, with its scale and its left and top margin."""
    height, width = image.shape[:2]
    scale = INPUT_PX / max(height, width)
    new_width, new_height = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (INPUT_PX - new_width) // 2, (INPUT_PX - new_height) // 2
    canvas = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
    canvas[top : top + new_height, left : left + new_width] = cv2.resize(
        image, (new_width, new_height), interpolation=method
    )
    return canvas, scale, left, top


def _tiles(image: np.ndarray, side: int) -> list[tuple[int, int, int, int]]:
    """Half-overlapping squares x0, y0, x1, y1 that cover the picture."""
    height, width = image.shape[:2]

    def starts(length: int) -> list[int]:
        last = max(0, length - side)
        steps = int(np.ceil(last / (side / 2)))
        return [round(last * i / max(1, steps)) for i in range(steps + 1)]

    return [
        (x, y, min(width, x + side), min(height, y + side)) for y in starts(height) for x in starts(width)
    ]


def _merge(rows: np.ndarray, containment: float = CONTAINMENT_TO_MERGE) -> np.ndarray:
    """Weighted non-maximum suppression; the merged rows, largest box first."""
    merged = []
    rows = rows[np.argsort(-rows[:, 0], kind="stable")]
    while len(rows):
        same = _is_same_face(rows[0], rows, containment)
        same[0] = True
        # Average only what agrees with the best row: a part of the face must not shrink the box.
        agree = _overlap(rows[0], rows)[0] > OVERLAP_TO_MERGE
        agree[0] = True
        close = rows[agree]
        weights = close[:, :1]
        mean = (close[:, 1:] * weights).sum(0) / weights.sum()
        merged.append(np.concatenate([rows[0, :1], mean]))
        rows = rows[~same]
    merged.sort(key=lambda row: -(row[3] - row[1]) * (row[4] - row[2]))
    return np.array(merged).reshape(-1, 5 + 2 * NUM_POINTS)


def _overlap(row: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union and over the smaller box, of one row against all."""
    low = np.maximum(row[1:3], rows[:, 1:3])
    high = np.minimum(row[3:5], rows[:, 3:5])
    shared = np.clip(high - low, 0, None).prod(1)
    area = (row[3:5] - row[1:3]).prod()
    areas = (rows[:, 3:5] - rows[:, 1:3]).prod(1)
    union, smaller = area + areas - shared, np.minimum(area, areas)
    return shared / np.maximum(union, SMALLEST_AREA), shared / np.maximum(smaller, SMALLEST_AREA)


def _is_same_face(row: np.ndarray, rows: np.ndarray, containment: float = CONTAINMENT_TO_MERGE) -> np.ndarray:
    over_union, over_smaller = _overlap(row, rows)
    return (over_union > OVERLAP_TO_MERGE) | (over_smaller > containment)


def _detection(row: np.ndarray) -> Detection:
    numbers = [float(value) for value in row]
    points = [(numbers[i], numbers[i + 1]) for i in range(5, 5 + 2 * NUM_POINTS, 2)]
    return Detection((numbers[1], numbers[2], numbers[3], numbers[4]), numbers[0], *points)

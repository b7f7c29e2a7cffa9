"""Contact sheets: labelled pictures in rows, to look at what the numbers mean."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

LABEL_PX = 16
LINE_PX = 2
INK, PAPER = (20, 20, 20), 245


def sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    cell_px: int = 128,
) -> np.ndarray:
    """uint8 RGB (H, W, 3) of pictures uint8 RGB (h, w, 3) in square cells, letterboxed; None leaves a cell empty.

    columns: a word over each column. labels: a word over each row, before its pictures.
    """
    width = max(len(row) for row in rows) * (cell_px + LINE_PX) + LINE_PX
    parts = [_strip(columns, width, cell_px)] if columns else []
    for index, row in enumerate(rows):
        if index < len(labels) and labels[index]:
            parts.append(_strip([labels[index]], width, width))
        parts.append(_row(row, width, cell_px))
    return np.concatenate(parts)


def evenly(count: int, wanted: int) -> list[int]:
    """`wanted` different indices from 0 to count - 1, evenly spread; fewer where there are fewer."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted)).tolist()})


def _row(pictures: Sequence[np.ndarray | None], width: int, cell_px: int) -> np.ndarray:
    row = np.full((cell_px + LINE_PX, width, 3), PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        if picture is None:
            continue
        scale = cell_px / max(picture.shape[:2])
        height, breadth = (max(1, round(side * scale)) for side in picture.shape[:2])
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = cv2.resize(picture, (breadth, height), interpolation=way)
        x = LINE_PX + index * (cell_px + LINE_PX) + (cell_px - breadth) // 2
        y = (cell_px - height) // 2
        row[y : y + height, x : x + breadth] = small
    return row


def _strip(words: Sequence[str], width: int, step_px: int) -> np.ndarray:
    strip = np.full((LABEL_PX, width, 3), PAPER, np.uint8)
    for index, word in enumerate(words):
        x = LINE_PX + index * (step_px + LINE_PX) + 1
        cv2.putText(strip, word, (x, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return strip

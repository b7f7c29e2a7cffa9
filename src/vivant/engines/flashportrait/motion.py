"""Motion of the family: what PD-FGC reads from a driving face, 554 numbers per frame.

The face is aligned first, as the published program does it, by five points; the points come from our face mesh
(vivant.face) instead of the published landmark network. Where no face is seen, the alignment of the frame before
holds, or that of a face in the middle of its crop. Legend: T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vivant.engines.flashportrait.config import Alignment
from vivant.face.align import similarity, warped
from vivant.face.framing import default_detector, default_mesh
from vivant.face.points import LIP_LEFT_CORNER, LIP_RIGHT_CORNER, NOSE_TIP, pupils
from vivant.ops.rows import FrameRows

ALIGNED_POINTS = np.array([(0.3843, 0.27), (0.62, 0.2668), (0.503, 0.4185), (0.406, 0.5273), (0.5977, 0.525)])
"""Where pupils (image left, right), nose tip and mouth corners belong, in sides of the aligned picture."""
POINTS_IN_CROP = np.array([(0.40, 0.484), (0.60, 0.484), (0.50, 0.62), (0.40, 0.664), (0.60, 0.664)])
"""Where they are in a crop of a face that looks ahead, in sides of the crop."""


@dataclass
class Motion(FrameRows):
    """Face features of T frames."""

    features: Tensor
    """(T, 42 + mouth): head pose 6, eyes 6, emotion 30, mouth; where differences are drawn, a placement of 6 more."""


def alignment_of(picture: np.ndarray, size_px: int) -> np.ndarray | None:
    """The matrix (2, 3) that aligns the largest face of a uint8 RGB picture; None where there is none."""
    found = default_detector().detect(picture, tiles=False)
    landmarks = default_mesh().landmarks(picture, found[0]) if found else None
    if landmarks is None:
        return None
    points = np.concatenate([pupils(landmarks), landmarks.xy[[NOSE_TIP, LIP_LEFT_CORNER, LIP_RIGHT_CORNER]]])
    return similarity(points, ALIGNED_POINTS * size_px)


def middle_alignment(side_px: int, size_px: int) -> np.ndarray:
    """The matrix for a face that was not found, in a crop of that side."""
    return similarity(POINTS_IN_CROP * side_px, ALIGNED_POINTS * size_px)


def seen_through(alignment: np.ndarray, window: tuple[float, float, float], side_px: int) -> np.ndarray:
    """The matrix for a picture whose window moved: scale and x, y shift to the window that `alignment` is of."""
    scale, *shift = window
    # Windows count from -1 to 1, pixels from 0.5 before the first one's middle.
    offset = scale / 2 - 0.5 + side_px / 2 * (1 - scale + np.asarray(shift))
    turned = alignment[:, :2]
    return np.concatenate([scale * turned, (turned @ offset + alignment[:, 2])[:, None]], 1)


def next_alignment(
    mode: Alignment,
    last: np.ndarray | None,
    picture: np.ndarray,
    size_px: int,
    window: tuple[float, float, float] = (1.0, 0.0, 0.0),
) -> tuple[np.ndarray, np.ndarray | None]:
    """The matrix (2, 3) through which the next picture is seen, and what to remember.

    last: what was remembered: with mode "each" the last face's, with "first" the first one's; None before the first.
    window: scale and x, y shift from the window of this picture to that of the shot's first. With "first" a face is
    looked for until there is one.
    """
    side = min(picture.shape[:2])
    if mode == "first" and last is not None:
        return seen_through(last, window, side), last
    found = alignment_of(picture, size_px)
    last = last if found is None else found
    return middle_alignment(side, size_px) if last is None else last, last


def aligned_face(picture: np.ndarray, alignment: np.ndarray, size_px: int) -> Tensor:
    """What the feature network sees: (1, 3, size, size) RGB in [-1, 1]."""
    face = warped(picture, alignment, size_px)
    return torch.from_numpy(face).permute(2, 0, 1)[None].float() / 127.5 - 1


def in_sides(alignment: np.ndarray, size_px: int) -> Tensor:
    """A matrix (2, 3) to pixels of the aligned face -> one to its sides."""
    return torch.from_numpy(alignment / size_px).float()

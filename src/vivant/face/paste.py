"""Putting a generated face back into its picture, with a soft border; only the crop's footprint is touched.

The published mask is a formula (no file is needed): with d the distance of a pixel to the box [16, 496] in
the 512-pixel crop, it is floor(255 * clip(1 - d / 16, 0, 1)). For other sizes both numbers scale.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from vivant.face.crop import SHRINK_TO_AVERAGE, Crop

# Width of the soft border, and its distance from the edge, relative to the crop.
BORDER = 16 / 512


def paste_back(
    frame: np.ndarray,
    generated: np.ndarray,
    crop: Crop,
    *,
    published: bool = False,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """A new frame with the generated face in the square of `crop`.

    frame: uint8 (H, W, 3). generated: (size, size, 3) uint8, or float in [0, 1]; its size may differ from
    the crop's. published: sample and truncate exactly as the published code does. where: uint8, of the
    generated picture's size: 0 keeps the frame's pixels, bit by bit, 255 shows the generated ones.
    """
    if frame.dtype != np.uint8 or generated.ndim != 3 or generated.shape[0] != generated.shape[1]:
        raise ValueError(
            f"expected a uint8 frame and a square generated picture, got {frame.dtype} {frame.shape} "
            f"and {generated.shape}"
        )
    if generated.dtype != np.uint8:
        generated = np.rint(np.clip(generated, 0, 1) * 255).astype(np.uint8)
    crop, generated = _at_sampling_size(crop, generated, published)
    mask = paste_mask(crop.size_px)
    if where is not None:
        mask = cv2.multiply(mask, _resized(where, crop.size_px), scale=1 / 255)

    result = frame.copy()
    x0, y0, x1, y1 = footprint(crop, frame.shape[0], frame.shape[1])
    if x1 <= x0 or y1 <= y0:
        return result
    matrix = crop.crop_to_image.astype(np.float64) - [[0, 0, x0], [0, 0, y0]]
    size = (x1 - x0, y1 - y0)
    # The published mask is not quite 0 at the right and bottom edge, where its black border shows through.
    outside = cv2.BORDER_CONSTANT if published else cv2.BORDER_REPLICATE
    face = cv2.warpAffine(generated, matrix, size, flags=cv2.INTER_LINEAR, borderMode=outside)
    mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)
    mix = _mixed_truncating if published else _mixed_rounding
    result[y0:y1, x0:x1] = mix(face, frame[y0:y1, x0:x1], mask)
    return result


@lru_cache(maxsize=4)
def paste_mask(size_px: int) -> np.ndarray:
    """uint8 (size, size): 255 inside, falling to 0 over the border. Shared and read-only."""
    border = BORDER * size_px
    position = np.arange(size_px, dtype=np.float64)
    outside = np.maximum(np.maximum(border - position, position - (size_px - border)), 0)
    distance = np.hypot(outside[:, None], outside[None, :])
    mask = np.floor(255 * np.clip(1 - distance / border, 0, 1)).astype(np.uint8)
    mask.setflags(write=False)
    return mask


def footprint(crop: Crop, height: int, width: int) -> tuple[int, int, int, int]:
    """The part of a picture that the crop can touch: x0, y0, x1, y1, the last two exclusive."""
    low, high = -1.0, float(crop.size_px)
    corners = crop.to_image(np.array([[low, low], [high, low], [high, high], [low, high]]))
    x0, y0 = np.floor(corners.min(0)).astype(int)
    x1, y1 = np.ceil(corners.max(0)).astype(int) + 1
    return max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1))


def _mixed_rounding(face: np.ndarray, under: np.ndarray, mask: np.ndarray) -> np.ndarray:
    difference = cv2.subtract(face, under, dtype=cv2.CV_16S)
    weights = cv2.merge([mask] * face.shape[2]).astype(np.int16)
    return cv2.add(under, cv2.multiply(difference, weights, scale=1 / 255), dtype=cv2.CV_8U)


def _mixed_truncating(face: np.ndarray, under: np.ndarray, mask: np.ndarray) -> np.ndarray:
    weight = mask.astype(np.float32)[..., None] / 255
    return np.clip(weight * face + (1 - weight) * under, 0, 255).astype(np.uint8)


def _resized(where: np.ndarray, size_px: int) -> np.ndarray:
    if where.shape[0] == size_px:
        return where
    smaller = cv2.INTER_AREA if where.shape[0] > size_px else cv2.INTER_LINEAR
    return cv2.resize(where, (size_px, size_px), interpolation=smaller)


def _at_sampling_size(crop: Crop, generated: np.ndarray, published: bool) -> tuple[Crop, np.ndarray]:
    """Crop and picture of one size, averaged down first where pasting would skip pixels."""
    size = generated.shape[0]
    if size != crop.size_px:
        crop = crop.resized(size)
    if not published and size > SHRINK_TO_AVERAGE * crop.side_px:
        size = max(1, round(crop.side_px))
        crop = crop.resized(size)
        generated = cv2.resize(generated, (size, size), interpolation=cv2.INTER_AREA)
    return crop, generated

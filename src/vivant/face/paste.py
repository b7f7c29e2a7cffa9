"""Putting a generated face back into its picture, with a soft border; only the crop's footprint is touched.

The published mask is a formula (no file is needed): with d the distance of a pixel to the box [16, 496] in
the 512-pixel crop, it is floor(255 * clip(1 - d / 16, 0, 1)). For other sizes both numbers scale.

Where the squares of several faces meet, each pixel belongs to the face whose centre is nearest, measured in sides of
its square, with a soft change between them: no square is pasted over another face, animated or not, and the order of
pasting does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from vivant.face.crop import SHRINK_TO_AVERAGE, Crop

# Width of the soft border, and its distance from the edge, relative to the crop.
BORDER = 16 / 512
# Half the width of the change from one face to its neighbour, relative to the crops.
CHANGE = 0.04


@dataclass(frozen=True)
class Patch:
    """A generated face and where it belongs."""

    generated: np.ndarray
    """(size, size, 3) uint8, or float in [0, 1]; its size may differ from the crop's."""
    crop: Crop
    others: tuple[Crop, ...] = ()
    """The squares of other faces of the picture."""
    where: np.ndarray | None = None
    """uint8, of the generated picture's size: 0 keeps the frame's pixels, bit by bit, 255 shows the generated ones."""


def paste_back(
    frame: np.ndarray,
    generated: np.ndarray,
    crop: Crop,
    *,
    published: bool = False,
    where: np.ndarray | None = None,
) -> np.ndarray:
    """A new frame, uint8 (H, W, 3), with one generated face in the square of `crop`; see `Patch`.

    published: sample and truncate exactly as the published code does. where: see `Patch`.
    """
    result = frame.copy()
    _paste(result, frame, Patch(generated, crop, where=where), published=published)
    return result


def paste_faces(frame: np.ndarray, patches: Sequence[Patch]) -> np.ndarray:
    """A new frame, uint8 (H, W, 3), with all the generated faces."""
    result = frame.copy()
    for patch in patches:
        _paste(result, frame, patch, published=False)
    return result


def _paste(result: np.ndarray, frame: np.ndarray, patch: Patch, *, published: bool) -> None:
    """Add the change from `frame` to the patch to `result`."""
    generated = patch.generated
    if frame.dtype != np.uint8 or generated.ndim != 3 or generated.shape[0] != generated.shape[1]:
        raise ValueError(
            f"expected a uint8 frame and a square generated picture, got {frame.dtype} {frame.shape} "
            f"and {generated.shape}"
        )
    if generated.dtype != np.uint8:
        generated = np.rint(np.clip(generated, 0, 1) * 255).astype(np.uint8)
    crop, generated = _at_sampling_size(patch.crop, generated, published)
    mask = shared_mask(crop, patch.others)
    if patch.where is not None:
        mask = cv2.multiply(mask, _resized(patch.where, crop.size_px), scale=1 / 255)
    x0, y0, x1, y1 = footprint(crop, frame.shape[0], frame.shape[1])
    if x1 <= x0 or y1 <= y0:
        return
    matrix = crop.crop_to_image.astype(np.float64) - [[0, 0, x0], [0, 0, y0]]
    size = (x1 - x0, y1 - y0)
    # The published mask is not quite 0 at the right and bottom edge, where its black border shows through.
    outside = cv2.BORDER_CONSTANT if published else cv2.BORDER_REPLICATE
    face = cv2.warpAffine(generated, matrix, size, flags=cv2.INTER_LINEAR, borderMode=outside)
    mask = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)
    under, onto = frame[y0:y1, x0:x1], result[y0:y1, x0:x1]
    onto[:] = _mixed_truncating(face, under, mask) if published else _added(face, under, onto, mask)


def owners(height: int, width: int, patches: Sequence[Patch]) -> np.ndarray:
    """uint8 (height, width): 1 + the index of the patch that makes most of a pixel, 0 where the picture does."""
    owner = np.zeros((height, width), np.uint8)
    for index, patch in enumerate(patches, 1):
        mask = shared_mask(patch.crop, patch.others)
        owner[cv2.warpAffine(mask, patch.crop.crop_to_image, (width, height)) > 127] = index
    return owner


def shared_mask(crop: Crop, others: Sequence[Crop]) -> np.ndarray:
    """uint8 (size, size): `paste_mask`, less what belongs to other faces. Read-only."""
    near = tuple(
        (other.crop_to_image.tobytes(), other.size_px)
        for other in others
        if np.linalg.norm(_centre(other) - _centre(crop)) < (crop.side_px + other.side_px) * np.sqrt(0.5)
    )
    return (
        _shared_mask(crop.crop_to_image.tobytes(), crop.size_px, near) if near else paste_mask(crop.size_px)
    )


@lru_cache(maxsize=64)
def _shared_mask(matrix: bytes, size_px: int, others: tuple[tuple[bytes, int], ...]) -> np.ndarray:
    """Of pictures the squares stay, so that this is computed once; of videos, for each frame."""
    crop, *rest = (_crop_of(*part) for part in ((matrix, size_px), *others))
    grid = np.stack(np.meshgrid(np.arange(size_px), np.arange(size_px)), -1).reshape(-1, 2)
    points = crop.to_image(grid.astype(np.float32))
    distances = [np.linalg.norm(points - _centre(each), axis=1) / each.side_px for each in (crop, *rest)]
    shares = []
    for index, own in enumerate(distances):
        leads = [other - own for other in distances[:index] + distances[index + 1 :]]
        shares.append(np.prod([np.clip(0.5 + lead / (2 * CHANGE), 0, 1) for lead in leads], axis=0))
    share = (shares[0] / np.sum(shares, axis=0)).reshape(size_px, size_px)
    mask = np.rint(paste_mask(size_px) * share).astype(np.uint8)
    mask.setflags(write=False)
    return mask


def _crop_of(matrix: bytes, size_px: int) -> Crop:
    crop_to_image = np.frombuffer(matrix, np.float32).reshape(2, 3)
    return Crop(crop_to_image, cv2.invertAffineTransform(crop_to_image), size_px)


def _centre(crop: Crop) -> np.ndarray:
    return crop.to_image(np.full((1, 2), crop.size_px / 2))[0]


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


def _added(face: np.ndarray, under: np.ndarray, onto: np.ndarray, mask: np.ndarray) -> np.ndarray:
    difference = cv2.subtract(face, under, dtype=cv2.CV_16S)
    weights = cv2.merge([mask] * face.shape[2]).astype(np.int16)
    return cv2.add(onto, cv2.multiply(difference, weights, scale=1 / 255), dtype=cv2.CV_8U)


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

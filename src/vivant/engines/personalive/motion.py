"""What a driving frame says: motion tokens of the face, and the head's pose; how the pose is drawn for the denoiser.

Pure functions on small tensors. Keypoints are row vectors, x right, y down, z inward, crop units (whole crop = 2).
Paper: arXiv 2512.11253, supplement, Eq. 4-6. Legend: T frames, K keypoints, L tokens, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.face.motion_extractor import HeadOutputs
from vivant.ops.bending import bent
from vivant.ops.constants import constant
from vivant.ops.exact import exactly
from vivant.ops.rotation import degrees_from_bins, rotation_from_degrees
from vivant.ops.rows import FrameRows
from vivant.ops.similarity import after, inverse, similarities

DRAWN_KEYPOINTS = (1, 2, 3, 4, 12, 15, 20)
"""The stable ones of the 21 implicit keypoints."""
COLOURS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 85))
DISC_RADIUS_PX = 4

TRANSLATION_GAIN = 0.5
"""How much of the driver's shift the portrait makes (published program)."""

BENDING_KEYPOINTS = (3, 4, 12, 11, 13)
"""Those by which a portrait is bent: outer eye corners, tip of the nose and corners of the mouth, where a network was
taught by stages_start.py."""
BENDING_PLACES = ((0.3387, 0.279), (0.6654, 0.2772), (0.5012, 0.3881), (0.4079, 0.5324), (0.5981, 0.5316))
"""Where they are, on average, in an aligned face (vivant.ops.bending)."""

FACE_SIDE = 1.7
"""Side of the face crop over twice the height from the drawn keypoints' middle to the topmost."""
FACE_SHIFT = 0.025
"""Of the crop's side: it reaches this much further right and down than left and up."""
SMALLEST_FACE = 1 / 32
"""Of the picture: a crop that is thinner was no face, and the whole picture is looked at."""


@dataclass(frozen=True)
class Pose:
    """Heads of T frames."""

    degrees: Tensor
    """(T, 3): pitch, yaw, roll."""
    scale: Tensor
    """(T, 1)."""
    translation: Tensor
    """(T, 3); the third component is never used."""
    canonical: Tensor
    """(T or 1, K, 3): neutral keypoints."""

    @property
    def keypoints(self) -> Tensor:
        """(T, K, 3): k = s k_c R + t (Eq. 6), with t added to x and y only."""
        return _posed(self.canonical, self.degrees, self.scale, self.translation)

    @property
    def last(self) -> Pose:
        """Of the last frame."""
        return Pose(*(value[-1:] for value in vars(self).values()))

    def then(self, later: Pose) -> Pose:
        """These frames and later ones of the same head."""
        return Pose(
            torch.cat([self.degrees, later.degrees]),
            torch.cat([self.scale, later.scale]),
            torch.cat([self.translation, later.translation]),
            self.canonical,
        )


@exactly
def _posed(canonical: Tensor, degrees: Tensor, scale: Tensor, translation: Tensor) -> Tensor:
    points = canonical @ rotation_from_degrees(*degrees.unbind(-1)) * scale[..., None]
    return points + F.pad(translation[:, :2], (0, 1))[:, None]


def pose_of(heads: HeadOutputs) -> Pose:
    """What the motion extractor says about T pictures, in degrees. Expression is not used in this family."""
    angles = [degrees_from_bins(logits) for logits in (heads.pitch, heads.yaw, heads.roll)]
    return Pose(
        torch.stack(angles, -1), heads.scale.float(), heads.translation.float(), heads.canonical.float()
    )


@dataclass
class Motion(FrameRows):
    """Motion of T frames. One tensor row per frame."""

    tokens: Tensor
    """(T, L, C): E_m, the face's motion."""
    degrees: Tensor
    """(T, 3): the head's pitch, yaw, roll."""
    scale: Tensor
    """(T, 1)."""
    translation: Tensor
    """(T, 3)."""

    def __post_init__(self) -> None:
        frames = len(self.tokens)
        expected = {"degrees": (frames, 3), "scale": (frames, 1), "translation": (frames, 3)}
        shapes = {name: tuple(getattr(self, name).shape) for name in expected}
        if shapes != expected:
            raise ValueError(f"motion of {frames} frames has shapes {expected}, got {shapes}")


Placement = Literal["published", "paper"]


def placed(reference: Pose, motion: Motion, first: Tensor, placement: Placement) -> Pose:
    """Where the portrait's head goes, T frames.

    Published program: the portrait's own size, the driver's angles, half of the shift since its translation `first`
    (1, 3). Paper (Eq. 6): size and place are the driver's too. The neutral keypoints are always the portrait's.
    """
    if placement == "paper":
        return Pose(motion.degrees, motion.scale, motion.translation, reference.canonical)
    shift = TRANSLATION_GAIN * (motion.translation - first)
    return Pose(
        motion.degrees,
        reference.scale.expand_as(motion.scale),
        reference.translation + shift,
        reference.canonical,
    )


def lead_in(
    start: Pose, tokens: Tensor, end: Pose, end_tokens: Tensor, weights: Tensor
) -> tuple[Pose, Tensor]:
    """From the portrait to the driver's first frame: poses and tokens at weights (T,) (Eq. 4 and 5).

    start, tokens (1, L, C): the portrait. end, end_tokens (1, L, C): where its head would go.
    """
    column = weights[:, None]

    def between(a: Tensor, b: Tensor) -> Tensor:
        return (1 - column) * a + column * b

    pose = Pose(
        between(start.degrees, end.degrees),
        between(start.scale, end.scale),
        between(start.translation, end.translation),
        start.canonical,
    )
    column = column[:, None]
    return pose, between(tokens, end_tokens)


def pixels(keypoints: Tensor, height: int, width: int) -> Tensor:
    """(T, K, 3) in crop units -> the drawn ones, (T, 7, 2): column and row, truncated."""
    drawn = constant(DRAWN_KEYPOINTS, keypoints.device, torch.long)
    points = keypoints.index_select(1, drawn)[..., :2] * 0.5 + 0.5
    size = constant((width, height), points.device)
    return (points * size).trunc()


def draw(keypoints: Tensor, height: int, width: int) -> Tensor:
    """Keypoints (T, K, 3) as coloured discs on black: (T, 3, H, W) in [0, 1]."""
    points = pixels(keypoints, height, width)
    columns = torch.arange(width, device=points.device)
    rows = torch.arange(height, device=points.device)
    across = (columns - points[..., :1]) ** 2
    down = (rows - points[..., 1:]) ** 2
    discs = (across[..., None, :] + down[..., None] <= DISC_RADIUS_PX**2).float()
    colours = constant(COLOURS, points.device) / 255
    return torch.einsum("tphw,pc->tchw", discs, colours).clamp(max=1)


def face_boxes(keypoints: Tensor, height: int, width: int) -> Tensor:
    """Where the face is, from a picture's own keypoints (T, K, 3): (T, 4) left, top, right, bottom, whole pixels."""
    points = pixels(keypoints, height, width)
    middle = points.mean(1)
    side = 2 * (middle[:, 1] - points[..., 1].amin(1)) * FACE_SIDE
    near, far = (0.5 - FACE_SHIFT) * side, (0.5 + FACE_SHIFT) * side
    edges = torch.stack(
        [middle[:, 0] - near, middle[:, 1] - near, middle[:, 0] + far, middle[:, 1] + far], -1
    )
    limits = constant((width - 1, height - 1, width - 1, height - 1), edges.device)
    return edges.clamp(min=torch.zeros_like(limits), max=limits).trunc()


def cut_faces(frames: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Boxes (T, 4) of frames (T, 3, H, W), stretched to (T, 3, size, size): bilinear, nothing beyond a box is seen.

    As slicing and resizing each frame, but with no size that the device would have to wait for.
    """
    height, width = frames.shape[2:]
    left, top, right, bottom = boxes.unbind(-1)
    too_small = (right - left < SMALLEST_FACE * width) | (bottom - top < SMALLEST_FACE * height)
    left, top = (torch.where(too_small, 0.0, edge) for edge in (left, top))
    right, bottom = torch.where(too_small, width, right), torch.where(too_small, height, bottom)
    steps = (torch.arange(size, device=frames.device) + 0.5) / size

    def along(start: Tensor, stop: Tensor, length: int) -> Tensor:
        extent = (stop - start)[:, None]
        inside = (steps * extent - 0.5).clamp(min=0).minimum(extent - 1)
        return (start[:, None] + inside) / (length - 1) * 2 - 1

    columns, rows = along(left, right, width), along(top, bottom, height)
    count = len(frames)
    grid = torch.stack(
        [columns[:, None].expand(count, size, size), rows[:, :, None].expand(count, size, size)], -1
    )
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)


def bent_portraits(pictures: Tensor, own: Tensor, keypoints: Tensor) -> Tensor:
    """Square pictures (B, 3, n, n) with their keypoints (B, K, 3), bent to others (B, T, K, 3): (B, T, 3, n, n)."""
    which = constant(BENDING_KEYPOINTS, pictures.device, torch.long)
    side = pictures.shape[-1]
    here = (own.index_select(1, which)[..., :2] + 1) * (side / 2) - 0.5
    there = (keypoints.index_select(2, which)[..., :2] + 1) * (side / 2) - 0.5
    aligned = similarities(here, constant(BENDING_PLACES, pictures.device)[None])
    moves = similarities(here[:, None].expand_as(there), there)
    placements = after(aligned[:, None], after(moves, inverse(aligned)[:, None]))
    return bent(pictures, aligned, placements).transpose(1, 2)

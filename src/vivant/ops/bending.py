"""A portrait, bent to where a driver's head is: what differences are drawn to.

A placement is the similarity that moves an aligned face from where a first face is to where this one is; so it knows
neither whose face it is nor how large its picture. The portrait's own face is moved likewise; what is far from the face
stays, and between them the picture stretches. Ours; of flashportrait, where it was written, and personalive.

Coordinates: sides of the aligned face. Letters: B pictures, T frames, n side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.ops.exact import exactly
from vivant.ops.similarity import after, inverse, through
from vivant.ops.similarity import size as scale_of

MIDDLE = (0.5, 0.42)
"""Of a face in its place, about the tip of the nose."""
INNER, OUTER = 0.33, 0.52
"""Distances from there: within the first all moves with the head, beyond the second nothing does."""


@dataclass(frozen=True)
class Source:
    """What is bent."""

    picture: Tensor
    """(1, 3, n, n) in [-1, 1]."""
    alignment: Tensor
    """(1, 2, 3): from its pixels to sides of its aligned face."""


def placement(first: Tensor, own: Tensor) -> Tensor:
    """The alignments (..., 2, 3) through which a frame is seen, and of its own face -> placements (..., 2, 3)."""
    return after(first, inverse(own))


@exactly
def bent(pictures: Tensor, alignments: Tensor, placements: Tensor) -> Tensor:
    """Pictures (B, 3, n, n), alignments (B, 2, 3) from their pixels, placements (B, T, 2, 3) -> (B, 3, T, n, n)."""
    count, num_frames, side = len(pictures), placements.shape[1], pictures.shape[-1]
    along = torch.arange(side, device=pictures.device, dtype=torch.float32)
    pixels = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1).flatten(0, 1)
    here = through(alignments, pixels.expand(count, -1, -1))[:, None]
    back = inverse(placements)
    middle = pictures.new_tensor(MIDDLE).view(1, 1, 1, 2).expand(count, num_frames, -1, -1)
    size = scale_of(placements)[..., None]
    distance = (here - through(placements, middle)).norm(dim=-1) / size
    nearness = ((OUTER - distance) / (OUTER - INNER)).clamp(0, 1)
    share = (nearness.square() * (3 - 2 * nearness))[..., None]
    source = here + share * (through(back, here.expand(-1, num_frames, -1, -1)) - here)
    where = through(inverse(alignments)[:, None].expand(-1, num_frames, -1, -1), source)
    grid = ((2 * where + 1) / side - 1).view(count * num_frames, side, side, 2)
    many = pictures.float().repeat_interleave(num_frames, 0)
    seen = F.grid_sample(many, grid, mode="bicubic", padding_mode="border", align_corners=False)
    return seen.unflatten(0, (count, num_frames)).transpose(1, 2)

"""Pictures at the size that training wants, wherever they lie."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def fitted(pictures: Tensor, size_px: int) -> Tensor:
    """(N, H, W, 3) uint8 -> (N, size, size, 3) uint8, smoothed where they get smaller."""
    if tuple(pictures.shape[1:3]) == (size_px, size_px):
        return pictures
    pixels, size = pictures.permute(0, 3, 1, 2).float(), (size_px, size_px)
    small = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False, antialias=True)
    return small.permute(0, 2, 3, 1).round().clamp(0, 255).byte().contiguous()

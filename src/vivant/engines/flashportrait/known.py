"""What is known of every latent before it is drawn. Letters: B samples, Z latent channels, F latents, h w cells."""

from __future__ import annotations

import torch
from torch import Tensor

MASK_CHANNELS = 4


def masked(known: Tensor) -> Tensor:
    """Latents (B, Z, F, h, w) of what is known -> (B, 4 + Z, F, h, w): before them a mask, 1 at the first latent."""
    mask = torch.zeros_like(known[:, :1]).repeat(1, MASK_CHANNELS, 1, 1, 1)
    mask[:, :, 0] = 1
    return torch.cat([mask, known], 1)

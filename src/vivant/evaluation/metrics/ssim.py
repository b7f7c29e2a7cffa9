"""Structural similarity as published: Gaussian window, per colour channel, averaged.

Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: sigma 1.5 px,
window 11 px, K1 0.01, K2 0.03, population variance, only windows that lie inside the picture. Equal to
scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIGMA_PX = 1.5
RADIUS_PX = 5
C1, C2 = 0.01**2, 0.03**2


def ssim(frames: Tensor, truth: Tensor) -> Tensor:
    """(T,) similarity, at most 1, of frames and truth, both (T, 3, H, W) in [0, 1] and at least 11 px wide."""
    if frames.shape != truth.shape or min(frames.shape[-2:]) <= 2 * RADIUS_PX:
        raise ValueError(f"ssim takes two equal shapes of 11 px or more, got {frames.shape}, {truth.shape}")
    x, y = frames.double(), truth.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return (luminance * structure).flatten(1).mean(1)


def _blurred(images: Tensor) -> Tensor:
    """Gaussian means of (T, C, H, W) at the places where the window fits."""
    at = torch.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (at / SIGMA_PX) ** 2)
    kernel = kernel / kernel.sum()
    flat = images.reshape(-1, 1, *images.shape[-2:])
    rows = F.conv2d(flat, kernel.view(1, 1, -1, 1))
    both = F.conv2d(rows, kernel.view(1, 1, 1, -1))
    return both.view(*images.shape[:2], *both.shape[-2:])

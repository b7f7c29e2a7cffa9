"""Training objectives of the family, one small function per term. Legend: B pictures, C channels, H W pixels or cells.

The supplement of arXiv 2512.11253 names MSE, an LPIPS weight of 2.0 and an adversarial weight of 0.05 for stages 2 and
3; masks and the rest are the published program's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Features = Callable[[Tensor], Sequence[Tensor]]
"""A frozen network: pictures (B, 3, H, W) in [0, 1] -> feature maps."""

FACE = slice(68)
EYES_AND_MOUTH = (slice(36, 42), slice(42, 48), slice(48, 68))
"""Of the 68 landmarks."""


def region_mask(points: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, H, W): 1 in the face's box, 2 in those of eyes and mouth, else 0. points (B, 68, 2) crop units."""
    mask = _box(points[:, FACE], height, width, 0.0)
    details = [_box(points[:, region], height, width, 0.04) for region in EYES_AND_MOUTH]
    return mask + torch.stack(details).amax(0)


def _box(points: Tensor, height: int, width: int, margin: float) -> Tensor:
    """1 inside the box of points (B, P, 2) and `margin` around it, 0 outside: (B, 1, H, W)."""
    rows = (torch.arange(height, device=points.device) + 0.5) * (2 / height) - 1
    columns = (torch.arange(width, device=points.device) + 0.5) * (2 / width) - 1
    low, high = points.amin(1) - margin, points.amax(1) + margin
    across = (columns >= low[:, :1]) & (columns <= high[:, :1])
    down = (rows >= low[:, 1:]) & (rows <= high[:, 1:])
    return (down[:, :, None] & across[:, None]).float()[:, None]


def masked_mse(drawn: Tensor, target: Tensor, mask: Tensor, focus: float = 1.0) -> Tensor:
    """MSE, and `focus` times MSE once more under the mask: (B, C, H, W), mask (B, 1, H, W)."""
    square = (drawn - target) ** 2
    return square.mean() + focus * (square * mask).mean()


def pixel_terms(drawn: Tensor, target: Tensor, mask: Tensor, focus: float) -> dict[str, Tensor]:
    """Of pictures that a solved VAE decodes, which has no features to compare: pixels, and how neighbours differ.

    All (B, 3, H, W) in [-1, 1], mask (B, 1, H, W). A blurred mouth errs little in its pixels.
    """
    error = drawn - target
    weights = 1 + focus * mask
    edges = [error.diff(dim=dim).abs() for dim in (2, 3)]
    return {
        "pixels": (weights * (error.abs() + error.square())).mean(),
        "edges": (weights[:, :, 1:] * edges[0]).mean() + (weights[..., 1:] * edges[1]).mean(),
    }


def perceptual(features: Features, drawn: Tensor, target: Tensor) -> Tensor:
    """LPIPS (Zhang et al., CVPR 2018) without learned weights: squared distances of feature directions, summed."""
    with torch.no_grad():
        wanted = [F.normalize(x.float(), dim=1) for x in features(target)]
    got = [F.normalize(x.float(), dim=1) for x in features(drawn)]
    terms = [((a - b) ** 2).sum(1).mean() for a, b in zip(got, wanted, strict=True)]
    return torch.stack(terms).sum()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Non-saturating, logistic: scores of any shape."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating: the drawn are to be taken for real."""
    return F.softplus(-fake).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL from a diagonal normal to the standard normal, per number."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()

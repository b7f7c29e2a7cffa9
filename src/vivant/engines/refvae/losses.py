"""Training objectives of the family, one small function per term (arXiv 2606.01620, sections 3 and 4, Algorithm 1).

The paper names L1, LPIPS and KL for the VAE, without weights and without an adversarial term; flow matching for the
generator; and takes its audio tower as given, which is why both towers of its source learn here (arXiv
2008.10010), by InfoNCE (van den Oord et al., arXiv 1807.03748).
Letters: B clips, T frames, Z latent channels, L latents in time, M references, h w cells, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Features = Callable[[Tensor], Sequence[Tensor]]
"""A frozen network: pictures (N, 3, H, W) in [0, 1] -> feature maps."""

KL_WEIGHT = 1e-6
CONTEXT_NOISE = 0.7
"""The cleanest past that training shows is clean, the noisiest at this time (t' ~ U[0, 0.7])."""
DROPOUT = 0.1
"""How often references, and independently sound, are left out, so that guidance has something to compare with."""
TEMPERATURE = 0.07
MOUTH, EYES = slice(48, 68), (slice(36, 42), slice(42, 48))
"""Of 68 landmarks."""
PART_ROOM = 0.3
"""Of a part's width, around it."""


def sampled(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A draw from the posterior."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL to the standard normal of (B, Z, L, h, w): summed over a latent's channels and cells, averaged over latents.

    Not summed over time, so that longer clips weigh no differently.
    """
    terms = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return terms.sum((1, 3, 4)).mean()


def part_weights(points: Tensor, side: int, weight: float, parts: Sequence[slice] = (MOUTH,)) -> Tensor:
    """Weights (B, 1, T, S, S), with mean 1 per batch, for landmarks (B, T, 68, 2): `weight` around parts, else 1.

    The paper has none. Mouth and eyes are a fiftieth of the picture, which a plain mean over pixels learns last.
    """
    line = (torch.arange(side, device=points.device) + 0.5) * (2 / side) - 1
    inside = torch.zeros(*points.shape[:2], side, side, dtype=torch.bool, device=points.device)
    for part in parts:
        low, high = points[:, :, part].amin(2), points[:, :, part].amax(2)
        room = PART_ROOM * (high - low).amax(-1, keepdim=True)
        between = (line >= (low - room)[..., None]) & (line <= (high + room)[..., None])
        inside |= between[..., 1, :, None] & between[..., 0, None, :]
    weights = 1 + (weight - 1) * inside.float()
    return (weights / weights.mean())[:, None]


def perceptual(features: Features, drawn: Tensor, target: Tensor) -> Tensor:
    """Per frame, for videos (B, 3, T, H, W) in [-1, 1]: squared distances of feature directions, summed over maps.

    This is LPIPS (Zhang et al., arXiv 1801.03924) with equal weights.
    """
    with torch.no_grad():
        wanted = [F.normalize(x.float(), dim=1) for x in features(_pictures(target))]
    got = [F.normalize(x.float(), dim=1) for x in features(_pictures(drawn))]
    terms = [(a - b).square().sum(1).mean() for a, b in zip(got, wanted, strict=True)]
    return torch.stack(terms).sum()


def _pictures(video: Tensor) -> Tensor:
    return video.movedim(2, 1).flatten(0, 1) / 2 + 0.5


def dropped(values: Tensor, null: Tensor, rate: float) -> Tensor:
    """Some rows of (B, ...) replaced by `null`, which has their shape or spreads to it."""
    rows = torch.rand(len(values), device=values.device) < rate
    return torch.where(rows.view(-1, *[1] * (values.dim() - 1)), null.to(values.dtype), values)


def context_times(count: int, device: torch.device) -> Tensor:
    """t' of each clip, (B,)."""
    return CONTEXT_NOISE * torch.rand(count, device=device)


def flow_matching(predicted: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared error of velocities (B, L, Z, h, w), with weights of cells (B, 1, 1, h, w)."""
    errors = (predicted.float() - target.float()).square()
    return (errors if weights is None else weights * errors).mean()


def lips_read(predicted: Tensor, target: Tensor, reading: Tensor) -> Tensor:
    """Squared error of lips, as `reading` (Z h w, 8) has them from latents, for velocities (B, L, Z, h, w).

    Not in the paper. It weighs the few directions that the sound decides; what is best does not change by it.
    """
    errors = (predicted.float() - target.float()).flatten(2)
    return (errors @ reading).square().mean()


def contrastive(lips: Tensor, sounds: Tensor) -> Tensor:
    """InfoNCE of unit vectors (B, D), both ways: row i of `lips` belongs to row i of `sounds` and to no other.

    SyncNet's own loss, a pull and a push with a margin, learned nothing here: with few people a constant distance is
    its first and last answer. What is compared with all others at once cannot be answered with a constant.
    """
    scores = lips @ sounds.mT / TEMPERATURE
    own = torch.arange(len(lips), device=lips.device)
    return 0.5 * (F.cross_entropy(scores, own) + F.cross_entropy(scores.mT, own))

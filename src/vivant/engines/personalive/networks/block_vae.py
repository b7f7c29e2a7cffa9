"""A VAE without training: blocks of 8 x 8 pixels to their principal components, and back; frame by frame.

A few convolutions mend what the components leave out; they begin by leaving pictures as they are. Ours, where the paper
has Stable Diffusion's: pictures that a network has never seen come back as well as those that it has, and what is drawn
can be a difference, for latents are linear in pixels.

Letters: N frames, Z components, h w cells, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.personalive.config import LATENT_FACTOR
from vivant.engines.personalive.config_networks import BlockVaeConfig
from vivant.layers.mending import Mending
from vivant.ops.components import principal

BLOCK_VALUES = 3 * LATENT_FACTOR**2
LEAST_SPREAD = 1e-3
"""Of the largest: a component that hardly differs is not divided by nearly nothing."""


class BlockVae(nn.Module):
    """Pixels in [-1, 1] to latents, and back. All but `mending` is set by `solve`, not by gradients."""

    components: Tensor
    """(Z, 192): orthonormal rows."""
    solved: Tensor
    """(): of how many blocks these are the components; 0: of none."""
    mean: Tensor
    """(Z,): of the components."""
    spread: Tensor
    """(Z,): what a latent is divided by."""
    width: Tensor
    """(Z,): the spread of latents over people, where that of the differences that are drawn is about 1."""

    def __init__(self, config: BlockVaeConfig):
        super().__init__()
        count = config.latent_channels
        # Any components, so that networks made for tests draw something; `solve` puts the right ones there.
        self.register_buffer("components", nn.init.orthogonal_(torch.empty(count, BLOCK_VALUES)))
        self.register_buffer("solved", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("width", torch.ones(count))
        self.mending = Mending(3, config.mending_width, config.num_mending_blocks)

    def encode(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, Z, h, w)."""
        with torch.autocast(pictures.device.type, enabled=False):
            known = torch.einsum("zv,nvhw->nzhw", self.components.float(), blocks(pictures.float()))
            return (known - _per_channel(self.mean)) / _per_channel(self.spread)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, Z, h, w) -> (N, 3, H, W), beyond [-1, 1] too, so that gradients pass."""
        pictures = self.linear(latents)
        return pictures + self.mending(pictures).float()

    def linear(self, latents: Tensor) -> Tensor:
        """What the components say, (N, 3, H, W)."""
        with torch.autocast(latents.device.type, enabled=False):
            known = latents.float() * _per_channel(self.spread) + _per_channel(self.mean)
            values = torch.einsum("zv,nzhw->nvhw", self.components.float(), known)
            return F.pixel_shuffle(values, LATENT_FACTOR)

    def told(self, latents: Tensor) -> Tensor:
        """Latents (..., Z, h, w) of a picture, as networks are told them: spread about 1."""
        return latents / _per_channel(self.width)


def blocks(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 192, h, w)."""
    return F.pixel_unshuffle(pictures, LATENT_FACTOR)


def _per_channel(values: Tensor) -> Tensor:
    return values.float().view(-1, 1, 1)


@torch.no_grad()
def solve(vae: BlockVae, pictures: Tensor, others: Tensor) -> None:
    """Set components, mean, spread and width from pictures (N, 3, H, W) in [-1, 1].

    others: what each is the difference to. Latents are divided by the square root of how much they differ from these,
    so that large differences stay larger than small ones, and then all alike: differences have a mean square of 1.
    """
    seen, compared = (blocks(own.double()).movedim(1, -1).flatten(0, -2) for own in (pictures, others))
    mean = seen.mean(0)
    covariance = (seen.T @ seen) / len(seen) - mean.outer(mean)
    rows = principal(covariance, len(vae.components))
    spreads = ((seen - compared) @ rows.T).square().mean(0).sqrt()
    spreads = spreads.clamp(min=LEAST_SPREAD * float(spreads.max()))
    spread = (spreads * spreads.mean()).sqrt()
    # A mean square of 1 over all components together.
    spread = spread * (spreads / spread).square().mean().sqrt()
    over_people = (rows @ covariance @ rows.T).diagonal().sqrt()
    for own, value in zip(
        (vae.components, vae.mean, vae.spread, vae.width),
        (rows, rows @ mean, spread, over_people / spread),
        strict=True,
    ):
        own.copy_(value)
    vae.solved.fill_(len(seen))

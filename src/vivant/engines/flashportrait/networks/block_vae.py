"""A VAE without training: blocks of pixels and frames to their principal components, and back.

A block is 8 x 8 pixels and 4 frames. Of its mean over the frames `still_channels` components are kept, of what differs
from that mean `moving_channels`; the first frame of a stream stands still. So nothing has to be remembered between two
latents, a picture that stands still has the latents of its first frame, and pictures that a network has never seen
come back as well as those that it has. A few convolutions mend what the components leave out (`mended`); they begin
by leaving pictures as they are. Ours; the paper has the Wan VAE (vae.py), whose methods these are.

Letters: B clips, T frames, L latents, K still and M moving channels, Z = K + M, h w cells, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import SPACE_FACTOR, TIME_FACTOR
from vivant.engines.flashportrait.config_networks import BlockVaeConfig
from vivant.layers.mending import Mending
from vivant.ops.components import principal

BLOCK_VALUES = 3 * SPACE_FACTOR**2


class BlockVae(nn.Module):
    """Pixels in [-1, 1] to latents, and back. Components, mean and spread are set by `solve`, not by gradients."""

    still: Tensor
    """(K, 192): orthonormal rows."""
    moving: Tensor
    """(M, 768): orthonormal rows, each without mean over its frames."""
    solved: Tensor
    """(): of how many blocks these are the components; 0: of none."""
    mean: Tensor
    """(Z,): of the components."""
    spread: Tensor
    """(Z,): what a latent is divided by."""
    width: Tensor
    """(Z,): the spread of latents over people, where that of differences within a clip is about 1."""

    def __init__(self, config: BlockVaeConfig):
        super().__init__()
        self.config = config
        count = config.latent_channels
        # Any components, so that networks made for tests draw something; `solve` puts the right ones there.
        still = nn.init.orthogonal_(torch.empty(config.still_channels, BLOCK_VALUES))
        moving = torch.randn(config.moving_channels, TIME_FACTOR, BLOCK_VALUES)
        moving = (moving - moving.mean(1, keepdim=True)).flatten(1)
        self.register_buffer("still", still)
        self.register_buffer("moving", moving / moving.norm(dim=1, keepdim=True))
        self.register_buffer("solved", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("spread", torch.ones(count))
        self.register_buffer("width", torch.ones(count))
        self.mending = Mending(3 * TIME_FACTOR, config.mending_width, config.num_mending_blocks)

    def encode_piece(self, frames: Tensor, cache: VaeCache) -> Tensor:
        """The next frames (1, 3, T, H, W) -> latents (1, Z, L, h, w).

        T is 1 + 4 k at the start of a stream and 4 k later.
        """
        starts = cache.is_empty
        cache.features = [None]
        return self.encoded(frames, starts)

    def encode_clips(self, frames: Tensor) -> Tensor:
        """Whole clips (B, 3, 1 + 4 k, H, W) -> latents (B, Z, 1 + k, h, w)."""
        return self.encoded(frames, starts=True)

    def decode_piece(self, latents: Tensor, cache: VaeCache) -> Tensor:
        """The next latents (1, Z, L, h, w) -> frames (1, 3, T, H, W); T = 4 L, at the start of a stream 3 fewer."""
        starts = cache.is_empty
        cache.features = [None]
        return self._decoded(latents, starts).clamp(-1, 1)

    def decode_clips(self, latents: Tensor) -> Tensor:
        """Whole clips (B, Z, L, h, w) -> frames (B, 3, 4 L - 3, H, W), beyond [-1, 1] too, so that gradients pass."""
        return self._decoded(latents, starts=True)

    def told(self, known: Tensor) -> Tensor:
        """Latents (B, Z, F, h, w) of a reference -> what the transformer is told of them, spread about 1."""
        return known / self.width.view(-1, 1, 1, 1)

    def blocks(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 4 L, H, W) -> means (B, L, h, w, 192) and what differs from them (B, L, h, w, 768)."""
        side = SPACE_FACTOR
        cut = frames.unflatten(2, (-1, TIME_FACTOR)).unflatten(4, (-1, side)).unflatten(6, (-1, side))
        # (B, 3, L, 4, h, 8, w, 8)
        cut = cut.permute(0, 2, 4, 6, 3, 1, 5, 7).flatten(5)
        mean = cut.mean(4)
        return mean, (cut - mean.unsqueeze(4)).flatten(4)

    def components(self, frames: Tensor) -> Tensor:
        """(B, 3, 4 L, H, W) -> (B, L, h, w, Z), neither centred nor scaled."""
        mean, rest = self.blocks(frames)
        return torch.cat([mean @ self.still.T, rest @ self.moving.T], -1)

    def linear(self, latents: Tensor) -> Tensor:
        """Latents (B, Z, L, h, w) -> what their components say, (B, 3, 4 L, H, W)."""
        known = latents.float().movedim(1, -1) * self.spread + self.mean
        mean, rest = known.split([self.config.still_channels, self.config.moving_channels], -1)
        side = SPACE_FACTOR
        cut = (mean @ self.still).unsqueeze(4) + (rest @ self.moving).unflatten(4, (TIME_FACTOR, -1))
        cut = cut.unflatten(5, (3, side, side)).permute(0, 5, 1, 4, 2, 6, 3, 7)
        return cut.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def mended(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, 4 L, H, W) of the components -> the same with what they left out, as far as it can be told."""
        fours = frames.unflatten(2, (-1, TIME_FACTOR)).movedim(2, 1).flatten(0, 1)
        fours = fours + self.mending(fours.flatten(1, 2)).float().unflatten(1, (3, TIME_FACTOR))
        return fours.unflatten(0, (len(frames), -1)).movedim(1, 2).flatten(2, 3)

    def encoded(self, frames: Tensor, starts: bool) -> Tensor:
        """Frames (B, 3, T, H, W) -> latents (B, Z, L, h, w); T is 4 L, or 3 fewer where a stream starts."""
        frames = frames.float()
        if starts:
            frames = torch.cat([frames[:, :, :1].expand(-1, -1, TIME_FACTOR - 1, -1, -1), frames], 2)
        with torch.autocast(frames.device.type, enabled=False):
            return ((self.components(frames) - self.mean) / self.spread).movedim(-1, 1)

    def _decoded(self, latents: Tensor, starts: bool) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            frames = self.linear(latents)
        return self.mended(frames)[:, :, TIME_FACTOR - 1 if starts else 0 :]


class Moments:
    """Sums over blocks of clips that `solve` needs, so that clips are read one after another."""

    def __init__(self, vae: BlockVae):
        self.vae = vae
        self.count = 0
        self.mean = torch.zeros(BLOCK_VALUES, dtype=torch.float64)
        self.still = torch.zeros(BLOCK_VALUES, BLOCK_VALUES, dtype=torch.float64)
        self.moving = torch.zeros(*[TIME_FACTOR * BLOCK_VALUES] * 2, dtype=torch.float64)
        self.differing = torch.zeros(BLOCK_VALUES, BLOCK_VALUES, dtype=torch.float64)

    def add(self, frames: Tensor) -> None:
        """Clips (B, 3, 4 L, H, W) in [-1, 1]; the first latent of each is what the others are compared with."""
        means, rest = self.vae.blocks(frames.float())
        differing = (means[:, 1:] - means[:, :1]).flatten(0, -2)
        means, rest = means.flatten(0, -2), rest.flatten(0, -2)
        self.count += len(means)
        self.mean += means.sum(0)
        self.still += means.T @ means
        self.moving += rest.T @ rest
        # As if there were as many of them.
        self.differing += (differing.T @ differing) * (len(means) / max(1, len(differing)))


@torch.no_grad()
def solve(moments: Moments) -> None:
    """Set components, mean, spread and width.

    Latents are divided by the square root of how much they differ within a clip, so that large differences stay larger
    than small ones, and then all alike, so that differences have a mean square of 1.
    """
    vae, count = moments.vae, moments.count
    mean = moments.mean / count
    covariance = moments.still / count - mean.outer(mean)
    still = principal(covariance, vae.config.still_channels)
    moving = principal(moments.moving / count, vae.config.moving_channels)
    spreads = torch.cat(
        [
            (still @ (moments.differing / count) @ still.T).diagonal(),
            (moving @ (moments.moving / count) @ moving.T).diagonal(),
        ]
    ).sqrt()
    centre = torch.cat([still @ mean, torch.zeros(len(moving))])
    over_people = torch.cat([(still @ covariance @ still.T).diagonal().sqrt(), spreads[len(still) :]])
    spread = (spreads * spreads.mean()).sqrt()
    for own, value in zip(
        (vae.still, vae.moving, vae.mean, vae.spread, vae.width),
        (still, moving, centre, spread, over_people / spread),
        strict=True,
    ):
        own.copy_(value)
    vae.solved.fill_(count)

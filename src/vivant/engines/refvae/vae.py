"""The causal video VAE: 64 x 64 x 4 pixels become one latent cell; references give back the detail that this loses.

    video --E1--> features --E2--> latents --D1--> --D_ref--> --D2--> video
    references --E1--> features ------------------^   (keys and values, once per portrait)

Numbers here are the paper's, whose E1 halves the picture four times; with fewer stages cells are smaller.
arXiv 2606.01620, section 3 and Figs. III, IV. Pixels are in [-1, 1]. A clip of 1 + 4n frames has 1 + n latents; in a
stream the first chunk has 1 + 4n frames and each later one 4n.
Legend: B batch, T frames, L latents in time, M references, H W pixels, C channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vivant.engines.refvae.config_vae import TIME_FACTOR, VaeConfig
from vivant.engines.refvae.layers import (
    RESAMPLING,
    CausalConv3d,
    CausalResBlock,
    Padding,
    RmsNorm,
    TemporalCache,
)
from vivant.ops.rotary import turned

References = list[tuple[Tensor, Tensor]]
"""Keys and values (B, heads, M * h * w, head channels) of the reference pictures, per block of D_ref."""

MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -30.0, 20.0
START_LOG_VARIANCE = -6.0
"""At 0, noise of spread 1 lay over latents that began with a spread of 0.1, and after 13,000 pictures the decoder did
without them and only copied references."""
ROPE_BASE = 10000.0
SAME_PLACE = 4.0
"""Start of the biases of queries and keys to references; a neighbouring cell is looked at a tenth as much."""


class Chain(nn.ModuleList):
    """Blocks one after another, all with the same cache."""

    recompute = False
    """For training: compute blocks again in the backward pass instead of keeping what they made."""

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        for block in self:
            x = checkpoint(block, x, cache, use_reentrant=False) if self.recompute else block(x, cache)
        return x


class Leave(nn.Module):
    """norm, silu, convolution: how a half of the network ends."""

    def __init__(self, num_in: int, num_out: int, padding: Padding, kernel_frames: int = 3):
        super().__init__()
        self.norm = RmsNorm(num_in)
        self.conv = CausalConv3d(num_in, num_out, (kernel_frames, 3, 3), padding)

    def forward(self, x: Tensor, cache: TemporalCache | None = None) -> Tensor:
        return self.conv.behind(self.norm, x, cache)


class FeatureEncoder(Chain):
    """E1: (B, 3, T, H, W) -> (B, C, T', H / 16, W / 16). Also what references go through."""

    def __init__(self, config: VaeConfig):
        padding, widths = config.temporal_padding, (*config.encoder_channels, config.feature_channels)
        down, _ = RESAMPLING[config.resampling]
        blocks: list[nn.Module] = [CausalConv3d(3, widths[0], (3, 3, 3), padding)]
        for stage, (width, wider) in enumerate(pairwise(widths)):
            blocks += [CausalResBlock(width, padding) for _ in range(config.encoder_blocks[stage])]
            blocks.append(down(width, wider, 2 if stage in (1, 2) else 1, padding))
        super().__init__(blocks)


class DeepEncoder(Chain):
    """E2: (B, C, T', H / 16, W / 16) -> mean and log variance (B, 2 Z, T', H / 64, W / 64)."""

    def __init__(self, config: VaeConfig):
        padding, widths = config.temporal_padding, (config.feature_channels, *config.deep_channels)
        taps, (down, _) = config.deep_kernel_frames, RESAMPLING[config.resampling]
        blocks: list[nn.Module] = []
        for width, wider in pairwise(widths):
            blocks += [
                CausalResBlock(width, padding, taps),
                down(width, wider, 1, padding, kernel_frames=taps),
            ]
        super().__init__([*blocks, Leave(widths[-1], 2 * config.latent_channels, padding, taps)])
        bias = cast("Leave", self[-1]).conv.conv.bias
        assert bias is not None
        nn.init.constant_(bias[config.latent_channels :], START_LOG_VARIANCE)


class DeepDecoder(Chain):
    """D1: (B, Z, L, H / 64, W / 64) -> (B, C, L, H / 16, W / 16)."""

    def __init__(self, config: VaeConfig):
        padding, widths = config.temporal_padding, (*config.decoder_deep_channels, config.feature_channels)
        taps, (_, up) = config.deep_kernel_frames, RESAMPLING[config.resampling]
        blocks: list[nn.Module] = [CausalConv3d(config.latent_channels, widths[0], (taps, 3, 3), padding)]
        for width, other in pairwise(widths):
            blocks += [up(width, other, 1, padding, kernel_frames=taps), CausalResBlock(other, padding, taps)]
        super().__init__(blocks)


class PictureDecoder(Chain):
    """D2: (B, C, L, H / 16, W / 16) -> (B, 3, T, H, W)."""

    def __init__(self, config: VaeConfig):
        padding, widths = config.temporal_padding, (config.feature_channels, *config.decoder_channels)
        _, up = RESAMPLING[config.resampling]
        blocks: list[nn.Module] = []
        for stage, (width, narrower) in enumerate(pairwise(widths)):
            blocks.append(up(width, narrower, 2 if stage in (1, 2) else 1, padding))
            blocks += [CausalResBlock(narrower, padding) for _ in range(config.decoder_blocks[stage])]
        super().__init__([*blocks, Leave(widths[-1], 3, padding)])


class Attention(nn.Module):
    """Multi-head attention whose queries, and keys, turn with their place in the picture (2-D RoPE)."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.num_heads = config.num_heads
        width, inner = config.feature_channels, config.num_heads * config.head_channels
        self.query, self.out = nn.Linear(width, inner), nn.Linear(inner, width)
        self.key_value = nn.Linear(width, 2 * inner)

    def keys_values(self, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C), (N, head channels / 2) -> two (B, heads, N, head channels)."""
        key, value = (self._heads(x) for x in self.key_value(tokens).chunk(2, -1))
        return turned(key, places), value

    def forward(self, tokens: Tensor, places: Tensor, keys_values: tuple[Tensor, Tensor]) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        query = turned(self._heads(self.query(tokens)), places)
        return self.out(F.scaled_dot_product_attention(query, *keys_values).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def places_of(height: int, width: int, head_channels: int, device: torch.device) -> Tensor:
    """Angles (height * width, head_channels / 2): the first half of the pairs for the row, the rest for the column."""
    count = head_channels // 4
    rates = ROPE_BASE ** (-torch.arange(count, device=device, dtype=torch.float64) / count)
    rows = torch.arange(height, device=device)[:, None, None] * rates
    columns = torch.arange(width, device=device)[None, :, None] * rates
    both = torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], -1)
    return both.reshape(height * width, -1)


class ReferenceBlock(nn.Module):
    """Each frame looks at itself, then at the references, then thinks."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        width = config.feature_channels
        self.norm_self, self.norm_cross, self.norm_reference, self.norm_mlp = (
            RmsNorm(width) for _ in range(4)
        )
        self.self_attention, self.cross_attention = Attention(config), Attention(config)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        # Turned by their places, equal vectors agree most where places do: references are first looked at where the
        # frame is drawn. From scattered looks, 14,000 pictures taught a small network nothing about references.
        nn.init.constant_(self.cross_attention.query.bias, SAME_PLACE)
        inner = config.num_heads * config.head_channels
        nn.init.constant_(self.cross_attention.key_value.bias[:inner], SAME_PLACE)
        # What is looked at is copied, as far as heads are wide enough for it; all else starts by adding nothing.
        nn.init.eye_(self.cross_attention.key_value.weight[inner:])
        nn.init.zeros_(self.cross_attention.key_value.bias[inner:])
        nn.init.eye_(self.cross_attention.out.weight)
        last = cast("nn.Linear", self.mlp[2])
        for linear in (self.self_attention.out, last):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, places: Tensor, references: tuple[Tensor, Tensor] | None) -> Tensor:
        """(B', N, C) -> (B', N, C); references' keys and values already repeated to B'."""
        y = _normed(self.norm_self, x)
        x = x + self.self_attention(y, places, self.self_attention.keys_values(y, places))
        if references is not None:
            x = x + self.cross_attention(_normed(self.norm_cross, x), places, references)
        return x + self.mlp(_normed(self.norm_mlp, x))


def _normed(norm: RmsNorm, tokens: Tensor) -> Tensor:
    return norm(tokens.transpose(1, 2)).transpose(1, 2)


class ReferenceDecoder(nn.Module):
    """D_ref: the decoder's features, frame by frame, with what the reference pictures show."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        width = config.feature_channels
        self.head_channels = config.head_channels
        self.enter, self.leave = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = RmsNorm(width)
        self.blocks = nn.ModuleList(ReferenceBlock(config) for _ in range(config.num_reference_blocks))
        # The decoder starts by drawing the references over what the latents say: half of the picture is then
        # right from the first step, and the path that carries their detail learns before it has anything to correct.
        nn.init.eye_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def references(self, features: Tensor) -> References:
        """Features of M pictures (B, M, C, h, w) -> keys and values per block. The order of pictures is not seen."""
        _, num_pictures, _, height, width = features.shape
        tokens = features.permute(0, 1, 3, 4, 2).flatten(1, 3)
        places = places_of(height, width, self.head_channels, features.device).repeat(num_pictures, 1)
        return [
            block.cross_attention.keys_values(_normed(block.norm_reference, tokens), places)
            for block in self.blocks
            if isinstance(block, ReferenceBlock)
        ]

    def forward(self, x: Tensor, references: References | None) -> Tensor:
        """(B, C, L, h, w) -> (B, C, L, h, w)."""
        batch, _, latents, height, width = x.shape
        places = places_of(height, width, self.head_channels, x.device)
        y = self.enter(x.permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2))
        for index, block in enumerate(self.blocks):
            seen = None
            if references is not None:
                key, value = references[index]
                seen = key.repeat_interleave(latents, 0), value.repeat_interleave(latents, 0)
            y = block(y, places, seen)
        y = self.leave(_normed(self.norm, y))
        return x + y.unflatten(0, (batch, latents)).unflatten(2, (height, width)).permute(0, 4, 1, 2, 3)


class VideoVae(nn.Module):
    """Everything, with one method per direction."""

    def __init__(self, config: VaeConfig):
        super().__init__()
        self.config = config
        self.feature_encoder, self.deep_encoder = FeatureEncoder(config), DeepEncoder(config)
        self.deep_decoder, self.reference_decoder = DeepDecoder(config), ReferenceDecoder(config)
        self.picture_decoder = PictureDecoder(config)

    def encode(self, video: Tensor, cache: TemporalCache | None = None) -> tuple[Tensor, Tensor]:
        """Video (B, 3, T, H, W) -> mean and log variance (B, Z, L, H / 64, W / 64).

        T is 1 + 4n in whole clips and first chunks, 4n in later ones; H and W are multiples of the config's
        space_factor. Raises ValueError.
        """
        begins = cache is None or not cache.started
        frames, height, width = video.shape[2:]
        cell = self.config.space_factor
        if (frames - begins) % TIME_FACTOR or frames < 1 or height % cell or width % cell:
            wanted = f"{'1 + ' if begins else ''}{TIME_FACTOR}n frames with sides of {cell}n"
            raise ValueError(f"the encoder takes {wanted}, got {frames} of {width}x{height}")
        if cache is not None:
            cache.begin()
        mean, log_variance = self.deep_encoder(self.feature_encoder(video, cache), cache).chunk(2, 1)
        if cache is not None:
            cache.finish()
        return mean, log_variance.clamp(MIN_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def encode_references(self, pictures: Tensor) -> References | None:
        """M pictures (B, M, 3, H, W) of the person -> what decoding looks at; None for M = 0."""
        count = pictures.shape[1]
        if count == 0:
            return None
        features = self.feature_encoder(pictures.flatten(0, 1)[:, :, None])[:, :, 0]
        return self.reference_decoder.references(features.unflatten(0, (-1, count)))

    def decode(
        self, latents: Tensor, references: References | None, cache: TemporalCache | None = None
    ) -> Tensor:
        """Latents (B, Z, L, h, w) -> video (B, 3, T, 64 h, 64 w): 1 + 4 (L - 1) frames at first, then 4 L."""
        if cache is not None:
            cache.begin()
        x = self.reference_decoder(self.deep_decoder(latents, cache), references)
        video = self.picture_decoder(x, cache)
        if cache is not None:
            cache.finish()
        return video

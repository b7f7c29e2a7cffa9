"""A start for the VAE's picture path that is solved instead of learned.

E1 begins as principal components of pictures, level by level; D2 as the least-squares inverse of each level, given what
D_ref makes of the same pictures as their own references. That is possible because residual blocks begin as identities
and resampling is linear. The mini VAE then redraws a picture that is its own reference at 28 dB before the first
step, and at 29 dB after 3,000 pictures; from scattered weights it had 27.1 dB after 31,000. Not in the paper.
Legend: N pictures, C channels, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.refvae.layers import CausalConv3d, Down, Up, shuffle, unshuffle
from vivant.engines.refvae.vae import Leave, ReferenceBlock, VideoVae

BRIGHT = 6.0
"""Of the constant that the first layer adds: what is divided by a norm can be told from it."""
ANCHOR = 1.5
"""Of the constant that goes with the features, over their mean norm."""
QUIET, QUIETER = 0.1, 0.02
"""How loud D1 and what enters D_ref begin, which know nothing yet."""
SAME_PLACE, MATCHING = 6.0, 0.3
"""Attention to references begins with this bias to the same place, and with as little to what looks alike."""
SMALLEST = 1e-5
"""Components with less than this share of the largest one's variance are left out."""
EVENING = -0.25
"""Components are multiplied by this power of their variance: half way to equal spreads."""
RIDGE = 1e-6
PIECE = 8
"""Pictures at a time."""


@torch.no_grad()
def solve_start(vae: VideoVae, pictures: Tensor) -> None:
    """Set the weights of E1, D_ref and D2, in place, from a hundred or more pictures (N, 3, S, S) in [-1, 1].

    Raises ValueError for a VAE whose layers are not `Down` and `Up`, begin with fewer than 7 channels, or have other
    widths in D2 than in E1.
    """
    config = vae.config
    mirrored = config.decoder_channels == config.encoder_channels[::-1]
    if config.resampling != "residual" or config.encoder_channels[0] < 7 or not mirrored:
        raise ValueError(
            "a solved start needs residual resampling, 7 channels or more, and a decoder that mirrors E1"
        )
    levels = _solve_encoder(vae, pictures[:, :, None])
    _calm(vae)
    _even_latents(vae, pictures[:, :, None])
    latents, _ = vae.encode(pictures[:, :, None])
    x = vae.reference_decoder(vae.deep_decoder(latents), vae.encode_references(pictures[:, None]))
    for module in vae.picture_decoder:
        if isinstance(module, Up):
            short = shuffle(x.repeat_interleave(module.repeats, 1), 1, 2)
            _fit(module.conv_space.conv, x, unshuffle(levels.pop() - short, 1, 2))
        if isinstance(module, Leave):
            _fit(module.conv.conv, F.silu(module.norm(x)), pictures[:, :, None])
        else:
            x = module(x)


def _solve_encoder(vae: VideoVae, x: Tensor) -> list[Tensor]:
    """E1; returns what enters each `Down`, the finest first."""
    first = cast("CausalConv3d", vae.feature_encoder[0]).conv
    weight, bias = torch.zeros(first.out_channels, 3), torch.zeros(first.out_channels)
    # With each colour its negative: silu(a) - silu(-a) = a, so that the last layer can undo its own silu.
    weight[:3], weight[3:6], bias[6] = torch.eye(3), -torch.eye(3), BRIGHT
    _set(first, weight[..., None, None], bias)
    levels: list[Tensor] = []
    for module in vae.feature_encoder:
        if isinstance(module, Down):
            levels.append(x)
            _set_components(module.conv_space.conv, x)
        x = module(x)
    norms = x.norm(dim=1).mean()
    last = cast("Down", vae.feature_encoder[-1]).conv_space.conv
    assert last.bias is not None
    # One channel becomes four, so half of it is its share of the norm.
    last.bias[-1] += ANCHOR * norms / 2
    return levels


def _set_components(conv: nn.Conv3d, x: Tensor) -> None:
    """The convolution says the largest principal components of the channels of x (N, C, 1, h, w)."""
    rows = x[:, :, 0].movedim(1, -1).flatten(0, 2)
    mean = rows.mean(0)
    variances, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    variances, vectors = variances.flip(0), vectors.flip(1)
    count = min(conv.out_channels, int((variances > SMALLEST * variances[0]).sum()))
    weight = torch.zeros(conv.out_channels, conv.in_channels)
    weight[:count] = (vectors[:, :count] * variances[:count] ** EVENING).T
    _set(conv, weight[..., None, None], -weight @ mean)


def _calm(vae: VideoVae) -> None:
    """What has nothing to say yet says little; references are copied from where the frame is drawn."""
    for module in vae.deep_decoder:
        if isinstance(module, CausalConv3d):
            module.conv.weight.mul_(QUIET)
        if isinstance(module, CausalConv3d | Up):
            conv = module.conv if isinstance(module, CausalConv3d) else module.conv_space.conv
            nn.init.zeros_(cast("Tensor", conv.bias))
    decoder = vae.reference_decoder
    decoder.enter.weight.mul_(QUIETER)
    decoder.enter.bias.zero_()
    for block in cast("Sequence[ReferenceBlock]", decoder.blocks):
        attention = block.cross_attention
        inner = attention.query.out_features
        attention.query.bias.fill_(SAME_PLACE)
        attention.key_value.bias[:inner] = SAME_PLACE
        attention.query.weight.mul_(MATCHING)
        attention.key_value.weight[:inner] *= MATCHING


def _even_latents(vae: VideoVae, x: Tensor) -> None:
    """Latents of videos x have spread 1, far above the noise that training lays over them."""
    conv = cast("Leave", vae.deep_encoder[-1]).conv.conv
    count = vae.config.latent_channels
    latents, _ = vae.encode(x)
    spread = latents.std((0, 2, 3, 4)).clamp(min=SMALLEST)
    assert conv.bias is not None
    conv.weight[:count] /= spread.view(-1, 1, 1, 1, 1)
    conv.bias[:count] = (conv.bias[:count] - latents.mean((0, 2, 3, 4))) / spread


def _set(conv: nn.Conv3d, weight: Tensor, bias: Tensor) -> None:
    """weight (out, in, 1 or k, 1 or k) at the kernel's last frame, which is the present one, and its middle."""
    assert conv.bias is not None
    conv.weight.zero_()
    margin = (conv.kernel_size[1] - weight.shape[-1]) // 2
    middle = slice(margin, margin + weight.shape[-1])
    conv.weight[:, :, -1, middle, middle] = weight
    conv.bias.copy_(bias)


def _fit(conv: nn.Conv3d, x: Tensor, wanted: Tensor) -> None:
    """Least squares: conv(x) = wanted, of stills (N, C, 1, h, w) -> (N, C', 1, h, w)."""
    side = conv.kernel_size[1]
    size = conv.in_channels * side**2 + 1
    square, product = x.new_zeros(size, size, dtype=torch.float64), None
    for part, goal in zip(x[:, :, 0].split(PIECE), wanted[:, :, 0].split(PIECE), strict=True):
        patches = F.unfold(part, side, padding=side // 2).transpose(1, 2).flatten(0, 1).double()
        rows = torch.cat([patches, patches.new_ones(len(patches), 1)], 1)
        square += rows.T @ rows
        found = rows.T @ goal.movedim(1, -1).flatten(0, 2).double()
        product = found if product is None else product + found
    assert product is not None
    square.diagonal().add_(RIDGE * square.diagonal().mean())
    solution = torch.linalg.solve(square, product).float()
    weight = solution[:-1].T.unflatten(1, (conv.in_channels, side, side))
    _set(conv, weight, solution[-1])

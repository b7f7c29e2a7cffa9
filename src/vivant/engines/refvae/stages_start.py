"""A start for the VAE that is solved instead of learned.

E1 and E2 begin as principal components of pictures, level by level; D1 and D2 as the least-squares inverse of each
level; D_ref as the least-squares estimate of what latents leave out, from another picture of the same person. That is
possible because residual blocks begin as identities and resampling is linear. The mini VAE then redraws held-out
people at 24.9 dB before the first step, and at 29.7 after 16,000 pictures; see docs/log.md. Not in the paper.
Legend: N pictures, C channels, S picture side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.refvae.layers import CausalConv3d, Down, Up, shuffle, unshuffle
from vivant.engines.refvae.losses import sampled
from vivant.engines.refvae.vae import START_LOG_VARIANCE, Chain, Leave, ReferenceBlock, VideoVae

BRIGHT = 6.0
"""Of the constant that the first layer adds: what is divided by a norm can be told from it."""
ANCHOR = 1.5
"""Of the constant that goes with the features, over their mean norm."""
QUIET = 0.02
"""How loud what enters D_ref begins: what D1 says goes around it."""
LINEAR = 0.2
"""Gain of the norm before E2's last layer: silu of so little is nearly a line."""
SAME_PLACE, MATCHING = 6.0, 0.3
"""Attention to references begins with this bias to the same place, and with as little to what looks alike."""
SMALLEST = 1e-5
"""Components with less than this share of the largest one's variance are left out."""
EVENING = -0.25
"""Components that latents say are multiplied by this power of their variance: half way to equal spreads."""
RIDGE = 1e-4
PIECE = 8
"""Pictures at a time."""


@torch.no_grad()
def solve_start(vae: VideoVae, pictures: Tensor, others: Tensor) -> None:
    """Set the weights of the VAE, in place, from some hundred pairs of pictures of a person, (N, 3, S, S) in [-1, 1].

    Raises ValueError for a VAE whose layers are not `Down` and `Up`, begin with fewer than 7 channels, or have other
    widths in the decoder than in the encoder.
    """
    config = vae.config
    mirrored = (
        config.decoder_channels == config.encoder_channels[::-1]
        and config.decoder_deep_channels == config.deep_channels[::-1]
    )
    if config.resampling != "residual" or config.encoder_channels[0] < 7 or not mirrored:
        raise ValueError(
            "a solved start needs residual resampling, 7 channels or more, and a decoder that mirrors the encoder"
        )
    _set_first(cast("CausalConv3d", vae.feature_encoder[0]).conv)
    levels, features = _solve_encoder(vae.feature_encoder, pictures[:, :, None])
    deep_levels, deep = _solve_encoder(vae.deep_encoder, features)
    _solve_latents(vae, deep)
    x = sampled(*vae.deep_encoder[-1](deep).chunk(2, 1))
    for module in vae.deep_decoder:
        if isinstance(module, CausalConv3d):
            _fit(module.conv, x, deep)
        x = _solved_up(module, x, deep_levels)
    x = _solve_references(vae, x, features, others)
    for module in vae.picture_decoder:
        if isinstance(module, Leave):
            _fit(module.conv.conv, F.silu(module.norm(x)), pictures[:, :, None])
        else:
            x = _solved_up(module, x, levels)


def _set_first(conv: nn.Conv3d) -> None:
    """Colours, and a constant."""
    weight, bias = torch.zeros(conv.out_channels, 3), torch.zeros(conv.out_channels)
    # With each colour its negative: silu(a) - silu(-a) = a, so that the last layer can undo its own silu.
    weight[:3], weight[3:6], bias[6] = torch.eye(3), -torch.eye(3), BRIGHT
    _set(conv, weight[..., None, None], bias)


def _solve_encoder(chain: Chain, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """E1 from pictures or E2 from features (N, C, 1, h, w); returns what enters each `Down`, the finest first, and what
    leaves the last."""
    levels: list[Tensor] = []
    for module in chain:
        if isinstance(module, Leave):
            break
        if isinstance(module, Down):
            levels.append(x)
            _set_components(module.conv_space.conv, x)
            if module.conv_time is not None:
                _share_channels(module.conv_time.conv)
            last = module.conv_space.conv
        x = module(x)
    assert last.bias is not None
    # One channel becomes four, so half of it is its share of the norm.
    anchor = ANCHOR * x.norm(dim=1).mean() / 2
    last.bias[-1] += anchor
    count = x.shape[1] // last.out_channels
    x[:, -count:] += anchor
    return levels, x


def _set_components(conv: nn.Conv3d, x: Tensor) -> None:
    """The convolution says the largest principal components of the channels of x (N, C, 1, h, w)."""
    mean, variances, vectors = _components(x)
    count = min(conv.out_channels, int((variances > SMALLEST * variances[0]).sum()))
    weight = torch.zeros(conv.out_channels, conv.in_channels)
    weight[:count] = vectors[:, :count].T
    _set(conv, weight[..., None, None], -weight @ mean)


def _share_channels(conv: nn.Conv3d) -> None:
    """Halving time, two frames share what the first of a stream has alone: of each two neighbouring channels, their
    mean in the one frame and their mean in the other. So what is solved on pictures holds in clips as well."""
    weight = torch.eye(conv.out_channels).repeat_interleave(conv.in_channels // conv.out_channels, 1)
    _set(conv, (weight / weight.sum(1, keepdim=True))[..., None, None], torch.zeros(conv.out_channels))


@torch.no_grad()
def fold_time(vae: nn.Module) -> None:
    """Single pictures teach all frames of a kernel alike, as their sum: give it to the present frame, in place.

    Pictures come out as before. In clips a kernel that was taught on pictures no longer mixes frames.
    """
    for module in vae.modules():
        if isinstance(module, CausalConv3d):
            weight = module.conv.weight
            total = weight.sum(2)
            weight.zero_()
            weight[:, :, -1] = total


def _components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,) of x (N, C, 1, h, w), its variances, the largest first, and their directions, the columns of (C, C)."""
    rows = x[:, :, 0].movedim(1, -1).flatten(0, 2)
    mean = rows.mean(0)
    variances, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    return mean, variances.flip(0), vectors.flip(1)


def _solve_latents(vae: VideoVae, deep: Tensor) -> None:
    """E2's last layer says the largest components of what enters it, (N, C, 1, h, w), turned so that all have spread 1.

    Turned, because latents are standardised channel by channel for the generator: what moves many pixels should weigh
    more there than what moves few.
    """
    leave, count = cast("Leave", vae.deep_encoder[-1]), vae.config.latent_channels
    mean, variances, vectors = _components(deep)
    rows = (deep[:, :, 0].movedim(1, -1) - mean) @ (
        vectors[:, :count] * variances[:count].clamp(min=SMALLEST) ** EVENING
    )
    turn, _ = torch.linalg.qr(torch.randn(count, count, generator=torch.Generator().manual_seed(0)))
    turned = (rows @ turn).movedim(-1, 1)[:, :, None]
    turned /= turned.std((0, 2, 3, 4), keepdim=True)
    leave.norm.gamma.fill_(LINEAR)
    conv = leave.conv.conv
    assert conv.bias is not None
    _fit(conv, F.silu(leave.norm(deep)), torch.cat([turned, torch.full_like(turned, START_LOG_VARIANCE)], 1))


def _solved_up(module: nn.Module, x: Tensor, levels: list[Tensor]) -> Tensor:
    """What a layer of D1 or D2 makes of x; an `Up` is first fitted to the coarsest of the levels, which is taken."""
    if isinstance(module, Up):
        short = shuffle(x.repeat_interleave(module.repeats, 1), 1, 2)
        _fit(module.conv_space.conv, x, unshuffle(levels.pop() - short, 1, 2))
    made: Tensor = module(x)
    return made


def _solve_references(vae: VideoVae, x: Tensor, features: Tensor, others: Tensor) -> Tensor:
    """D_ref copies from where the frame is drawn, and adds to x what brings it nearest to the features (least squares).

    Returns what leaves it, (N, C, 1, h, w).
    """
    decoder = vae.reference_decoder
    decoder.enter.weight.mul_(QUIET)
    decoder.enter.bias.zero_()
    for block in cast("Sequence[ReferenceBlock]", decoder.blocks):
        attention = block.cross_attention
        inner = attention.query.out_features
        attention.query.bias.fill_(SAME_PLACE)
        attention.key_value.bias[:inner] = SAME_PLACE
        attention.query.weight.mul_(MATCHING)
        attention.key_value.weight[:inner] *= MATCHING
    nn.init.eye_(decoder.leave.weight)
    nn.init.zeros_(decoder.leave.bias)
    added = torch.cat(
        [decoder(part, vae.encode_references(other[:, None])) - part for part, other in _pieces(x, others)]
    )
    rows, goals = (values.movedim(1, -1).flatten(0, -2) for values in (added, features - x))
    weight, bias = _least_squares([(rows, goals)])
    decoder.leave.weight.copy_(weight)
    decoder.leave.bias.copy_(bias)
    return x + F.linear(rows, weight, bias).view_as(added.movedim(1, -1)).movedim(-1, 1)


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(tensor.split(PIECE) for tensor in tensors), strict=True)


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
    weight, bias = _least_squares(
        (
            F.unfold(part, side, padding=side // 2).transpose(1, 2).flatten(0, 1),
            goal.movedim(1, -1).flatten(0, 2),
        )
        for part, goal in _pieces(x[:, :, 0], wanted[:, :, 0])
    )
    _set(conv, weight.unflatten(1, (conv.in_channels, side, side)), bias)


def _least_squares(pieces: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Weight (C', C) and bias (C',) that make goals (R, C') of rows (R, C) best, over all pieces of both."""
    square: Tensor | None = None
    product: Tensor | None = None
    for part, goal in pieces:
        rows = torch.cat([part, part.new_ones(len(part), 1)], 1).double()
        found, told = rows.T @ rows, rows.T @ goal.double()
        square = found if square is None else square + found
        product = told if product is None else product + told
    assert square is not None
    assert product is not None
    square.diagonal().add_(RIDGE * square.diagonal().mean())
    solution = torch.linalg.solve(square, product).float()
    return solution[:-1].T, solution[-1]

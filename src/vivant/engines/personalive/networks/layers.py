"""Blocks of the two UNets. Names follow the published weights; everything acts on frames folded into the batch.

What is looked at (reference tokens, motion tokens, frames of the window) is always an argument. Legend: N frames in
the batch (B F), B pictures, F frames of a window, C channels, h w latent cells, L tokens, P channels of a head.
"""

from __future__ import annotations

import math
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.ops import fused
from vivant.ops.attention import attention
from vivant.ops.joined import together
from vivant.ops.measured import convolved, gated, linear, multiplies, summed

KeysValues: TypeAlias = tuple[Tensor, Tensor]
"""Keys and values (B, heads, L, P)."""

RESNET_EPS = 1e-5
TRANSFORMER_EPS = 1e-6


def sinusoids(positions: Tensor, channels: int) -> Tensor:
    """Positions (L,) -> (L, channels / 2, 2): sin and cos at frequencies from 1 down to 1/10000.

    The callers differ in how they lay the two out.
    """
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, device=positions.device) * (-math.log(10000.0) / half))
    angles = positions.float()[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1)


class Attention(nn.Module):
    """Multi-head attention without biases on queries, keys and values."""

    def __init__(self, channels: int, num_heads: int, context_channels: int | None = None):
        super().__init__()
        context = context_channels if context_channels is not None else channels
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def keys_values(self, tokens: Tensor) -> KeysValues:
        """(B, L, context channels) -> keys and values."""
        keys, values = together(tokens, self.to_k, self.to_v)
        return self._heads(keys), self._heads(values)

    def queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of tokens (N, L, C): (N, heads, L, P) each."""
        queries, keys, values = together(x, self.to_q, self.to_k, self.to_v)
        return self._heads(queries), self._heads(keys), self._heads(values)

    def forward(self, x: Tensor, looked_at: KeysValues) -> Tensor:
        """Tokens (N, L, C) look at keys and values of the same N."""
        return self.looked(self._heads(self.to_q(x)), looked_at)

    def among(self, x: Tensor) -> Tensor:
        """Tokens (N, L, C) look at each other."""
        queries, keys, values = self.queries_keys_values(x)
        return self.looked(queries, (keys, values))

    def looked(self, queries: Tensor, looked_at: KeysValues, added: Tensor | None = None) -> Tensor:
        """The same of queries (N, heads, L, P); then added (B, 1, C), for N / B of them each."""
        seen = attention(queries, *looked_at)
        seen, out = seen.transpose(1, 2).flatten(2), cast("nn.Linear", self.to_out[0])
        if added is None:
            return out(seen)
        if len(added) == 1 and fused.usable(seen, out):
            return F.linear(seen, out.weight, out.bias + added[0, 0].to(out.bias.dtype))
        return out(seen) + added.repeat_interleave(len(queries) // len(added), 0)

    def constant(self, token: Tensor) -> Tensor:
        """What attention to a single token (B, 1, context channels) gives any query: the softmax of one is 1."""
        return self.to_out[0](self.to_v(token))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class GatedLinear(nn.Module):
    """Linear with a gate: x W_1 * GELU(x W_2)."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        return gated(x, self.proj)


class FeedForward(nn.Module):
    """Per token, four times as wide inside."""

    def __init__(self, channels: int):
        super().__init__()
        # The gap is where the published module keeps its dropout.
        self.net = nn.ModuleList(
            [GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels)]
        )

    def bias_ahead(self, x: Tensor) -> Tensor | None:
        """(C,): the last layer's bias, if what is added to the result should hold it already: where kernels multiply x
        alike, the product is then added in place."""
        last = cast("nn.Linear", self.net[2])
        return last.bias if multiplies(x, last) else None

    def forward(self, x: Tensor, added: Tensor, *, has_bias: bool = False) -> Tensor:
        """(..., C), and what is added to the result; with `bias_ahead` in it, it is overwritten."""
        hidden, last = self.net[0](x), cast("nn.Linear", self.net[2])
        return summed(hidden, last, added) if has_bias else linear(hidden, last, added)


class ResnetBlock(nn.Module):
    """Two convolutions, told the time in between."""

    def __init__(self, num_in: int, num_out: int, time_channels: int, norm_groups: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(norm_groups, num_in, RESNET_EPS)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(time_channels, num_out)
        self.norm2 = nn.GroupNorm(norm_groups, num_out, RESNET_EPS)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(num_in, num_out, 1) if num_in != num_out else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(N, C, h, w), time (N, D) after its SiLU."""
        y = convolved(fused.group_norm(x, self.norm1, silu=True), self.conv1)
        y = fused.group_norm(y, self.norm2, silu=True, added=self.time_emb_proj(time))
        return convolved(y, self.conv2, x if self.conv_shortcut is None else convolved(x, self.conv_shortcut))


class Downsampler(nn.Module):
    """Half the size."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsampler(nn.Module):
    """Twice the size, nearest."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return convolved(fused.doubled(x), self.conv)


class ReferenceBlock(nn.Module):
    """Pixels look at their own frame and at reference tokens; then the identity is added; then a feed-forward."""

    def __init__(self, channels: int, num_heads: int, identity_channels: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, num_heads)
        # Attention to one token: its queries never matter, but they are in the published files.
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, num_heads, identity_channels)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, identity: Tensor, reference: KeysValues | None) -> tuple[Tensor, Tensor]:
        """Tokens (N, L, C), identity (B, 1, C), reference of B -> tokens, and norm1's output: what R hands to D."""
        normed = fused.layer_norm(x, self.norm1)
        queries, keys, values = self.attn1.queries_keys_values(normed)
        if reference is not None:
            keys, values = fused.beside(keys, reference[0]), fused.beside(values, reference[1])
        seen = self.attn1.looked(queries, (keys, values), added=identity)
        bias = self.ff.bias_ahead(x)
        x, y = fused.added_norm(x, seen, self.norm3, later=bias)
        return self.ff(y, x, has_bias=bias is not None), normed


class SpatialTransformer(nn.Module):
    """A ReferenceBlock on the cells of each frame."""

    def __init__(self, channels: int, num_heads: int, identity_channels: int, norm_groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([ReferenceBlock(channels, num_heads, identity_channels)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    @property
    def block(self) -> ReferenceBlock:
        block = self.transformer_blocks[0]
        assert isinstance(block, ReferenceBlock)
        return block

    def forward(self, x: Tensor, identity: Tensor, reference: KeysValues | None) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> the same shape, and the tokens (N, h w, C) that R hands to D."""
        y = convolved(fused.group_norm(x, self.norm), self.proj_in).flatten(2).transpose(1, 2)
        y, tokens = self.block(y, identity, reference)
        y = y.transpose(1, 2).unflatten(2, x.shape[2:])
        return convolved(y, self.proj_out, x), tokens


class TemporalCode(nn.Module):
    """Which slot of the window a frame is in, as a sinusoid: sin and cos take turns."""

    pe: Tensor

    def __init__(self, channels: int, max_frames: int):
        super().__init__()
        code = sinusoids(torch.arange(max_frames), channels).flatten(1)
        self.register_buffer("pe", code[None])


class TemporalAttention(Attention):
    """Frames of the window look at each other. The code enters queries, keys and values."""

    def __init__(self, channels: int, num_heads: int, max_frames: int):
        super().__init__(channels, num_heads)
        self.pos_encoder = TemporalCode(channels, max_frames)

    def code(self, num_frames: int) -> Tensor:
        """(F, C)."""
        return self.pos_encoder.pe[0, :num_frames]

    def over_frames(self, x: Tensor, num_frames: int) -> Tensor:
        """(B F, L, C), to which the code was added."""
        if fused.usable(x, self.to_q, self.to_k, self.to_v):
            asked = together(x, self.to_q, self.to_k, self.to_v)
            return self.to_out[0](fused.temporal_attention(asked, self.num_heads, num_frames))
        cells = x.unflatten(0, (-1, num_frames)).transpose(1, 2)  # B, L, F, C
        flat = cells.flatten(0, 1)
        seen = self.among(flat).unflatten(0, cells.shape[:2])
        return seen.transpose(1, 2).flatten(0, 1)


class TemporalBlock(nn.Module):
    """Each cell attends over the frames of the window, twice; then a feed-forward."""

    def __init__(self, channels: int, num_heads: int, max_frames: int):
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, num_heads, max_frames) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """(N, L, C), windows of num_frames."""
        first, second = (cast("TemporalAttention", attention) for attention in self.attention_blocks)
        norms, cells = [cast("nn.LayerNorm", norm) for norm in self.norms], x.shape[1]
        y = fused.layer_norm(x, norms[0], first.code(num_frames), cells)
        seen = first.over_frames(y, num_frames)
        x, y = fused.added_norm(x, seen, norms[1], second.code(num_frames), cells)
        seen = second.over_frames(y, num_frames)
        bias = self.ff.bias_ahead(x)
        x, y = fused.added_norm(x, seen, self.ff_norm, later=bias)
        return self.ff(y, x, has_bias=bias is not None)


class MotionBlock(nn.Module):
    """The cells of each frame look at that frame's motion tokens, twice; then a feed-forward."""

    def __init__(self, channels: int, num_heads: int, motion_channels: int):
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            Attention(channels, num_heads, motion_channels) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, motion: Tensor) -> Tensor:
        """(N, L, C), motion (N, tokens, channels)."""
        first, second = (cast("Attention", attention) for attention in self.attention_blocks)
        norms = [cast("nn.LayerNorm", norm) for norm in self.norms]
        seen = first(fused.layer_norm(x, norms[0]), first.keys_values(motion))
        x, y = fused.added_norm(x, seen, norms[1])
        seen = second(y, second.keys_values(motion))
        bias = self.ff.bias_ahead(x)
        x, y = fused.added_norm(x, seen, self.ff_norm, later=bias)
        return self.ff(y, x, has_bias=bias is not None)


class TokenTransformer(nn.Module):
    """A block between linear projections, on the cells of each frame. GroupNorm sees one frame at a time."""

    def __init__(self, block: nn.Module, channels: int, norm_groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, TRANSFORMER_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, given: Tensor | int) -> Tensor:
        """(N, C, h, w) and what the block is given."""
        y = self.proj_in(fused.group_norm(x, self.norm).flatten(2).transpose(1, 2))
        y = self.transformer_blocks[0](y, given)
        if fused.usable(x, self.proj_out):
            rows = fused.rows_of(x)
            return fused.pictures_of(linear(y.view(rows.shape), self.proj_out, rows))
        y = self.proj_out(y)
        return x + y.transpose(1, 2).unflatten(2, x.shape[2:])


class Slot(nn.Module):
    """Only a name: the published files keep both kinds of modules under `temporal_transformer`."""

    def __init__(self, transformer: TokenTransformer):
        super().__init__()
        self.temporal_transformer = transformer

    def forward(self, x: Tensor, given: Tensor | int) -> Tensor:
        return self.temporal_transformer(x, given)

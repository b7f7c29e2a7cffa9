"""Portrait encoder: 554 numbers per frame become tokens for the transformer (arXiv 2512.16900, section 3.1).

Submodule names are those of the published weights. Legend: T frames, L latents, E token channels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from vivant.engines.flashportrait.config import TIME_FACTOR
from vivant.engines.flashportrait.config_networks import (
    EMOTION_CHANNELS,
    EYE_CHANNELS,
    HEAD_POSE_CHANNELS,
    PortraitEncoderConfig,
)


class PortraitEncoder(nn.Module):
    """Four linear tokens, and two resamplers for mouth and emotion; every frame on its own."""

    def __init__(self, config: PortraitEncoderConfig):
        super().__init__()
        self.config = config
        self.proj_model = LinearTokens(config)
        self.mouth_proj_model = Resampler(config, config.mouth_channels, config.num_mouth_tokens)
        self.emo_proj_model = Resampler(config, EMOTION_CHANNELS, config.num_emotion_tokens)
        if config.learned_places:
            count = tokens_per_latent(config.tokens_per_frame)
            self.places = nn.Parameter(torch.randn(count, config.token_channels) / config.token_channels**0.5)

    def told(self, features: Tensor) -> Tensor:
        """Windows of motion (B, 4 (L - 1) + 1, 42 + mouth or more) -> what each latent is told, (B, L, 4 n + 1, E)."""
        features = features[
            ..., : HEAD_POSE_CHANNELS + EYE_CHANNELS + EMOTION_CHANNELS + self.config.mouth_channels
        ]
        tokens = group_windows(self(features.flatten(0, 1)).unflatten(0, features.shape[:2]))
        return tokens + self.places if self.config.learned_places else tokens

    def forward(self, features: Tensor) -> Tensor:
        """(T, 42 + mouth): head pose, eyes, emotion, mouth -> (T, tokens per frame, E)."""
        sizes = [HEAD_POSE_CHANNELS, EYE_CHANNELS, EMOTION_CHANNELS, self.config.mouth_channels]
        pose, eyes, emotion, mouth = features.split(sizes, -1)
        linear = self.proj_model(pose, eyes, emotion, mouth)
        return torch.cat([linear, self.mouth_proj_model(mouth), self.emo_proj_model(emotion)], 1)


class LinearTokens(nn.Module):
    """One token per kind of feature, under one norm."""

    def __init__(self, config: PortraitEncoderConfig):
        super().__init__()
        width = config.token_channels
        self.headpose_proj = nn.Linear(HEAD_POSE_CHANNELS, width, bias=False)
        self.eye_proj = nn.Linear(EYE_CHANNELS, width, bias=False)
        self.emo_proj = nn.Linear(EMOTION_CHANNELS, width, bias=False)
        self.mouth_proj = nn.Linear(config.mouth_channels, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, pose: Tensor, eyes: Tensor, emotion: Tensor, mouth: Tensor) -> Tensor:
        tokens = [
            self.headpose_proj(pose),
            self.eye_proj(eyes),
            self.emo_proj(emotion),
            self.mouth_proj(mouth),
        ]
        return self.norm(torch.stack(tokens, 1))


class Resampler(nn.Module):
    """Perceiver: learned queries read one input token and each other."""

    def __init__(self, config: PortraitEncoderConfig, in_channels: int, num_queries: int):
        super().__init__()
        width = config.width
        self.latents = nn.Parameter(torch.randn(1, num_queries, width) / width**0.5)
        self.proj_in = nn.Linear(in_channels, width)
        self.proj_out = nn.Linear(width, config.token_channels)
        self.norm_out = nn.LayerNorm(config.token_channels)
        self.layers = nn.ModuleList(
            nn.ModuleList([QueryAttention(config), _feed_forward(width)]) for _ in range(config.num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(T, in channels) -> (T, queries, E)."""
        token = self.proj_in(features).unsqueeze(1)
        queries = self.latents.expand(len(features), -1, -1)
        for layer in self.layers:
            attention, feed_forward = cast("nn.ModuleList", layer)
            queries = attention(token, queries) + queries
            queries = feed_forward(queries) + queries
        return self.norm_out(self.proj_out(queries))


class QueryAttention(nn.Module):
    """Queries attend to the token and to themselves."""

    def __init__(self, config: PortraitEncoderConfig):
        super().__init__()
        inner = config.num_heads * config.head_channels
        self.num_heads = config.num_heads
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.to_q = nn.Linear(config.width, inner, bias=False)
        self.to_kv = nn.Linear(config.width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.width, bias=False)

    def forward(self, token: Tensor, queries: Tensor) -> Tensor:
        queries = self.norm2(queries)
        seen = torch.cat([self.norm1(token), queries], 1)
        keys, values = self.to_kv(seen).chunk(2, -1)
        q, k, v = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (self.to_q(queries), keys, values)
        )
        out = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(2))


def _feed_forward(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


def tokens_per_latent(tokens_per_frame: int) -> int:
    """Those of its four frames, and the last token of the frame before: 97 published."""
    return TIME_FACTOR * tokens_per_frame + 1


def group_by_latent(tokens: Tensor) -> Tensor:
    """Tokens (4 (L - 1) + 1, n, E) of a window's frames -> (L, 4 n + 1, E), zeros where a latent has fewer.

    The first latent is one frame; its zeros stand at the end and are attended like any token. From the second on, a
    latent also sees the last token of the frame before it: an off-by-one of the published code that its weights
    were trained with.
    """
    return group_windows(tokens[None])[0]


def group_windows(tokens: Tensor) -> Tensor:
    """The same for windows of B clips at once: (B, 4 (L - 1) + 1, n, E) -> (B, L, 4 n + 1, E)."""
    count, num_frames, per_frame, channels = tokens.shape
    size = tokens_per_latent(per_frame)
    flat = tokens.flatten(1, 2)
    first = torch.cat([flat[:, :per_frame], flat.new_zeros(count, size - per_frame, channels)], 1)[:, None]
    if num_frames == 1:
        return first
    rest = flat[:, per_frame - 1 :].unfold(1, size, TIME_FACTOR * per_frame).movedim(-1, 2)
    return torch.cat([first, rest], 1)

"""E_m: a face crop -> its motion in a few tokens. The face-alignment hourglass of X-NeMo with three attention blocks.

Names follow the published weights. Legend: N pictures, C channels, H W cells, L tokens, D token channels, p patch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.personalive.config_networks import HOURGLASS_DEPTH, MotionEncoderConfig
from vivant.engines.personalive.networks.layers import TRANSFORMER_EPS, Attention, FeedForward, sinusoids

SHORTCUT_EPS = 1e-4
"""Of the batch norm in a block's shortcut; all others have 1e-5."""
LARGE_PATCH, SMALL_PATCH = 4, 2


class ConvBlock(nn.Module):
    """Three convolutions of half, a quarter and a quarter of the width, side by side, and a shortcut."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        half, quarter = num_out // 2, num_out // 4
        self.bn1 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample: nn.Sequential | None = None
        if num_in != num_out:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(num_in, eps=SHORTCUT_EPS), nn.ReLU(), nn.Conv2d(num_in, num_out, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        one = self.conv1(F.relu(self.bn1(x)))
        two = self.conv2(F.relu(self.bn2(one)))
        three = self.conv3(F.relu(self.bn3(two)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.cat([one, two, three], 1) + shortcut


class Hourglass(nn.Module):
    """Down HOURGLASS_DEPTH times and up again, with a side way at every size."""

    def __init__(self, channels: int):
        super().__init__()
        for level in range(HOURGLASS_DEPTH, 0, -1):
            for way in ("b1", "b2", "b3"):
                self.add_module(f"{way}_{level}", ConvBlock(channels, channels))
        self.b2_plus_1 = ConvBlock(channels, channels)

    def forward(self, x: Tensor, level: int = HOURGLASS_DEPTH) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        side = self.get_submodule(f"b1_{level}")(x)
        low = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        low = self.forward(low, level - 1) if level > 1 else self.b2_plus_1(low)
        low = self.get_submodule(f"b3_{level}")(low)
        return side + F.interpolate(low, size=side.shape[2:], mode="bilinear", align_corners=False)


class PatchEmbedding(nn.Module):
    """Patches of p x p cells as tokens."""

    def __init__(self, channels: int, token_channels: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, token_channels, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, L, D), with the fixed code of their places added."""
        x = self.proj(x)
        code = place_code(x.shape[2], x.shape[3], x.shape[1], x.device)
        return x.flatten(2).transpose(1, 2) + code.to(x.dtype)


def place_code(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(L, D): half of the channels say the column, half the row; in each half all sines, then all cosines."""
    half = channels // 2

    def along(count: int) -> Tensor:
        waves = sinusoids(torch.arange(count, device=device), half)
        return torch.cat([waves[..., 0], waves[..., 1]], -1)

    columns = along(width)[None].expand(height, width, half)
    rows = along(height)[:, None].expand(height, width, half)
    return torch.cat([columns, rows], -1).flatten(0, 1)


class TokenBlock(nn.Module):
    """Self-attention and a feed-forward."""

    def __init__(self, channels: int, num_heads: int):
        super().__init__()
        self.attention_blocks = nn.ModuleList([Attention(channels, num_heads)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels)])
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, L, D)."""
        attention = self.attention_blocks[0]
        assert isinstance(attention, Attention)
        x = x + attention.among(self.norms[0](x))
        return self.ff(self.ff_norm(x), x)


class PatchAttention(nn.Module):
    """Patches attend to each other; each token is then cut into the cells of its patch."""

    def __init__(self, channels: int, patch: int, config: MotionEncoderConfig):
        super().__init__()
        self.patch = patch
        self.norm = nn.GroupNorm(config.norm_groups, channels, TRANSFORMER_EPS)
        self.pos_embed = PatchEmbedding(channels, config.token_channels, patch)
        self.transformer_blocks = nn.ModuleList([TokenBlock(config.token_channels, config.num_heads)])
        self.proj_out = nn.Linear(config.token_channels // patch**2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        rows, columns = x.shape[2] // self.patch, x.shape[3] // self.patch
        tokens = self.transformer_blocks[0](self.pos_embed(self.norm(x)))
        cells = tokens.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (rows, columns))
        cells = self.proj_out(cells.transpose(2, 3).flatten(3, 4).flatten(1, 2))  # N, H, W, C
        return x + cells.permute(0, 3, 1, 2)


class FaceHourglass(nn.Module):
    """The network proper, up to one vector per picture."""

    def __init__(self, config: MotionEncoderConfig):
        super().__init__()
        stem, middle, wide = config.channels
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = ConvBlock(stem, middle)
        self.conv3 = ConvBlock(middle, middle)
        self.conv4 = ConvBlock(middle, wide)
        self.m0 = Hourglass(wide)
        self.top_m_0 = ConvBlock(wide, wide)
        self.conv_last0 = nn.Conv2d(wide, wide, 1)
        self.bn_end0 = nn.BatchNorm2d(wide)
        self.l0 = nn.Conv2d(wide, config.num_heatmaps, 1)
        self.bn5 = nn.BatchNorm2d(config.num_heatmaps)
        self.conv6 = nn.Conv2d(config.num_heatmaps, config.map_channels, 3, stride=2, padding=1)
        self.fc = nn.Linear(
            config.map_channels * (config.image_size // 8) ** 2, config.num_tokens * config.motion_channels
        )
        self.att_1 = PatchAttention(middle, LARGE_PATCH, config)
        self.att_2 = PatchAttention(wide, SMALL_PATCH, config)
        self.att_3 = PatchAttention(wide, SMALL_PATCH, config)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, tokens * channels)."""
        return self.summary(self.heatmaps(x))

    def heatmaps(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, maps, H / 4, W / 4)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.att_1(self.conv2(x))
        x = self.conv4(self.conv3(F.max_pool2d(x, 2)))
        x = self.top_m_0(self.m0(self.att_2(x)))
        x = self.att_3(self.bn_end0(self.conv_last0(x)))
        return self.l0(F.relu(x))

    def summary(self, heatmaps: Tensor) -> Tensor:
        """(N, maps, H / 4, W / 4) -> (N, tokens * channels)."""
        x = F.relu(self.bn5(heatmaps))
        return self.fc(F.relu(self.conv6(x).flatten(1)))


def token_code(num_tokens: int, channels: int) -> Tensor:
    """(1, tokens, channels): which token it is; all sines, then all cosines."""
    waves = sinusoids(torch.arange(num_tokens), channels)
    return torch.cat([waves[..., 0], waves[..., 1]], -1)[None]


class MotionEncoder(nn.Module):
    """E_m."""

    pe: Tensor

    def __init__(self, config: MotionEncoderConfig):
        super().__init__()
        self.size = config.image_size
        self.model = FaceHourglass(config)
        width = config.num_tokens * config.motion_channels
        self.final_proj = nn.Linear(width, width)
        self.register_buffer("pe", token_code(config.num_tokens, config.motion_channels))

    def forward(self, faces: Tensor) -> Tensor:
        """Crops (N, 3, S, S) in [-1, 1] -> motion tokens (N, tokens, channels)."""
        return self.tokens(self.model.heatmaps(faces))

    def tokens(self, heatmaps: Tensor) -> Tensor:
        """(N, maps, S / 4, S / 4) -> motion tokens."""
        motion = self.final_proj(self.model.summary(heatmaps))
        return motion.unflatten(1, self.pe.shape[1:]) + self.pe.to(motion.dtype)

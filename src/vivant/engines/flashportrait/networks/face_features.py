"""PD-FGC (Wang et al., arXiv 2211.14506): head pose, eyes, emotion and mouth of an aligned face, as four vectors.

A face alignment network (Bulat and Tzimiropoulos, arXiv 1703.07332) whose 68 heatmaps are read by four small heads.
Submodule names are those of the published weights. Legend: T frames, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant.engines.flashportrait.config_networks import (
    EMOTION_CHANNELS,
    EYE_CHANNELS,
    HEAD_POSE_CHANNELS,
    FaceFeaturesConfig,
)

NUM_HEATMAPS = 68
HOURGLASS_DEPTH = 4
UNUSED_MOUTH_CHANNELS = 500


class FaceFeatures(nn.Module):
    """What an aligned face says. Float32 always: small, and everything follows from it."""

    keep_float32 = True
    """Read by vivant.runtime.precision."""

    def __init__(self, config: FaceFeaturesConfig):
        super().__init__()
        self.model = HeatmapBackbone(config)
        width = config.mouth_channels
        self.to_mouth, self.to_headpose, self.to_eye, self.to_emo = (_head(width) for _ in range(4))
        # In the published file and never read: mouth features are used as they are.
        self.mouth_embed = nn.Sequential(nn.ReLU(), nn.Linear(width, UNUSED_MOUTH_CHANNELS))
        self.headpose_embed = nn.Sequential(nn.ReLU(), nn.Linear(width, HEAD_POSE_CHANNELS))
        self.eye_embed = nn.Sequential(nn.ReLU(), nn.Linear(width, EYE_CHANNELS))
        self.emo_embed = nn.Sequential(nn.ReLU(), nn.Linear(width, EMOTION_CHANNELS))

    def forward(self, faces: Tensor) -> Tensor:
        """Aligned RGB faces (T, 3, S, S) in [-1, 1] -> (T, 42 + mouth): head pose, eyes, emotion, mouth."""
        with torch.autocast(faces.device.type, enabled=False):
            return self.read(faces.float())[0]

    def read(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """The same at the precision of the caller, for training; and the heatmaps (T, 68, S / 4, S / 4)."""
        heatmaps = self.model.heatmaps(faces.contiguous(memory_format=torch.channels_last))
        seen = self.model.summary(heatmaps)
        parts = [
            self.headpose_embed(self.to_headpose(seen)),
            self.eye_embed(self.to_eye(seen)),
            self.emo_embed(self.to_emo(seen)),
            self.to_mouth(seen),
        ]
        return torch.cat(parts, -1), heatmaps


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, width))


class HeatmapBackbone(nn.Module):
    """Face to heatmaps at a quarter of the size, and these to one vector."""

    def __init__(self, config: FaceFeaturesConfig):
        super().__init__()
        width = 4 * config.width
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(config.width)
        self.conv2 = ConvBlock(config.width, width // 2)
        self.conv3 = ConvBlock(width // 2, width // 2)
        self.conv4 = ConvBlock(width // 2, width)
        self.m0 = Hourglass(width)
        self.top_m_0 = ConvBlock(width, width)
        self.conv_last0 = nn.Conv2d(width, width, 1)
        self.l0 = nn.Conv2d(width, NUM_HEATMAPS, 1)
        self.bn_end0 = nn.BatchNorm2d(width)
        self.conv6 = nn.Conv2d(NUM_HEATMAPS, config.map_channels, 3, stride=2, padding=1)
        self.fc = nn.Linear(config.map_channels * (config.image_size // 8) ** 2, config.mouth_channels)
        self.bn5 = nn.BatchNorm2d(NUM_HEATMAPS)

    def heatmaps(self, faces: Tensor) -> Tensor:
        """(T, 3, S, S) -> (T, 68, S / 4, S / 4)."""
        x = F.relu(self.bn1(self.conv1(faces)))
        x = self.conv4(self.conv3(F.max_pool2d(self.conv2(x), 2)))
        x = self.top_m_0(self.m0(x))
        return self.l0(F.relu(self.bn_end0(self.conv_last0(x))))

    def forward(self, faces: Tensor) -> Tensor:
        """(T, 3, S, S) -> (T, C)."""
        return self.summary(self.heatmaps(faces))

    def summary(self, heatmaps: Tensor) -> Tensor:
        """(T, 68, S / 4, S / 4) -> (T, C)."""
        x = self.conv6(F.relu(self.bn5(heatmaps)))
        return self.fc(F.relu(x.flatten(1)))


class ConvBlock(nn.Module):
    """Three 3x3 convolutions of shrinking width, concatenated, with a residual."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        half, quarter = out_channels // 2, out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = nn.Conv2d(quarter, quarter, 3, padding=1, bias=False)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(in_channels), nn.ReLU(), nn.Conv2d(in_channels, out_channels, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(F.relu(self.bn1(x)))
        second = self.conv2(F.relu(self.bn2(first)))
        third = self.conv3(F.relu(self.bn3(second)))
        residual = x if self.downsample is None else self.downsample(x)
        return torch.cat([first, second, third], 1) + residual


class Hourglass(nn.Module):
    """Halves the picture four times and adds what each size saw; blocks are named b1_4 ... b1_1, as published."""

    def __init__(self, width: int):
        super().__init__()
        for level in range(HOURGLASS_DEPTH, 0, -1):
            for part in (1, 2, 3):
                self.add_module(f"b{part}_{level}", ConvBlock(width, width))
        self.b2_plus_1 = ConvBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self._level(HOURGLASS_DEPTH, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        parts = self._modules
        beside, before, after = (parts[f"b{part}_{level}"] for part in (1, 2, 3))
        assert beside is not None
        assert before is not None
        assert after is not None
        low = before(F.max_pool2d(x, 2))
        low = self._level(level - 1, low) if level > 1 else self.b2_plus_1(low)
        return beside(x) + F.interpolate(after(low), size=x.shape[-2:], mode="bilinear")

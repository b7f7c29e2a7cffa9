"""What flow matching takes as given, for those who train without published weights: a VAE, and what sees faces.

Letters: B clips, T frames, Z latent channels, E blendshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant import checkpoint
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.networks.portrait_encoder import (
    EMOTION_CHANNELS,
    EYE_CHANNELS,
    HEAD_POSE_CHANNELS,
)
from vivant.engines.flashportrait.stages import FlowStage

LATENT_NOISE = 0.1
"""Added to latents while the VAE learns, so that neighbours mean nearly the same picture."""
SCALE_WEIGHT = 0.05
RIGID = (*range(17), *range(27, 31))
"""Points of jaw and nose bridge, of the 68: where they are in an aligned face says how the head is turned."""
EYE_POINTS, MOUTH_POINTS = tuple(range(36, 48)), tuple(range(48, 68))
NUM_BLENDSHAPES = 53


class VaeStage(FlowStage):
    """The VAE alone: short clips come back, and every latent channel has mean 0 and spread 1."""

    @property
    def num_frames(self) -> int:
        return 9

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        vae, frames = self._networks.vae, _clips(batch)
        latents = vae.encode_piece(frames, VaeCache())
        noisy = latents + LATENT_NOISE * torch.randn_like(latents)
        again = vae.decode_unbounded(noisy, VaeCache())
        spread, mean = torch.std_mean(latents.float(), (0, 2, 3, 4))
        return {
            "pixels": (again - frames).abs().mean() + (again - frames).square().mean(),
            "scale": SCALE_WEIGHT * (mean.square().mean() + (spread - 1).square().mean()),
        }

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Each clip's last frame, and what came back."""
        vae, frames = network.vae, _clips(batch)
        again = vae.decode_piece(vae.encode_piece(frames, VaeCache()), VaeCache())  # type: ignore[operator, union-attr]
        rows = zip(frames[:, :, -1], again[:, :, -1], strict=True)
        return [torch.cat(row, 2) / 2 + 0.5 for row in rows]


class Read(nn.Module):
    """The networks, and what reads the face features while they learn; the readers are left behind."""

    def __init__(self, networks: nn.Module, mouth_channels: int):
        super().__init__()
        self.networks = networks
        self.sizes = [HEAD_POSE_CHANNELS, EYE_CHANNELS, EMOTION_CHANNELS, mouth_channels]
        wanted = [2 * len(RIGID), 2 * len(EYE_POINTS), NUM_BLENDSHAPES, 2 * len(MOUTH_POINTS)]
        self.readers = nn.ModuleList(
            nn.Linear(size, count) for size, count in zip(self.sizes, wanted, strict=True)
        )


class FaceStage(FlowStage):
    """Face features alone: head pose says where jaw and nose are, eyes and mouth where theirs, emotion the blendshapes.

    All in the aligned face, as PD-FGC sees it; a linear reader per part keeps the parts apart.
    """

    @property
    def num_frames(self) -> int:
        return 1

    def started(self) -> FaceStage:
        """The same with readers."""
        self.network = Read(self.network, self.config.face_features.mouth_channels)
        return self

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        read = self.network
        assert isinstance(read, Read)
        faces = batch["faces"].flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        parts = read.networks.face_features(faces).split(read.sizes, -1)  # type: ignore[operator]
        pose, eyes, emotion, mouth = (reader(part) for reader, part in zip(read.readers, parts, strict=True))
        points = batch["points"].flatten(0, 1)
        return {
            "pose": (pose - points[:, list(RIGID)].flatten(1)).abs().mean(),
            "eyes": (eyes - points[:, list(EYE_POINTS)].flatten(1)).abs().mean(),
            "mouth": (mouth - points[:, list(MOUTH_POINTS)].flatten(1)).abs().mean(),
            "emotion": F.mse_loss(emotion, batch["expression"].flatten(0, 1)),
        }

    def export(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, Read)
        checkpoint.save(folder, "flashportrait", self.config, network.networks)

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()


def _clips(batch: dict[str, Tensor]) -> Tensor:
    """(B, 3, T, H, W) in [-1, 1]."""
    return batch["frames"].permute(0, 4, 1, 2, 3).float() / 127.5 - 1

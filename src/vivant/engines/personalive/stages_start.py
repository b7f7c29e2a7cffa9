"""What the three stages take as given, for those who train without published weights: a VAE and a pose network.

Both learn from single studio pictures; the pose network from the renderer's truth. Legend: B batch, S picture side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant.engines.personalive import losses
from vivant.engines.personalive.motion import pose_of
from vivant.engines.personalive.networks import LATENT_SCALE
from vivant.engines.personalive.stages import Diffusion
from vivant.ops.rotation import degrees_from_rotation
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings

DIVERGENCE_WEIGHT = 1e-3
DEGREES_WEIGHT = 0.05
FAR = 1e6
"""Camera distance of labels: this family projects without perspective."""

STUDIO_POINTS = (27, 4, 12, 36, 45, 0, 16, 2, 14, 17, 26, 48, 30, 54, 31, 33, 35, 21, 22, 57, 8)
"""Which landmark each of the 21 implicit keypoints learns. Those that are drawn (1, 2, 3, 4, 12, 15, 20) are corners of
the jaw, outer eye corners, tip and foot of the nose, chin: neutral, so none moves with expression, and spread so that
the face crop, which is measured from them, reaches from brows to chin."""


class Single(Diffusion):
    """Single pictures with the renderer's labels."""

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PortraitSettings(
            size_px=int(config.extra["size_px"]),
            batch_size=config.batch_size,
            seed=config.seed,
            pairs=False,
            camera_distance=FAR,
        )
        sessions = [item for item in self.data if isinstance(item, Session)]
        return Portraits(sessions, settings, self.backgrounds, rank)


class VaeStage(Single):
    """The autoencoder alone: pictures come back, and scaled latents stay near a standard normal."""

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        vae, pictures = self.networks.vae, batch["image"].movedim(-1, 1).float() / 255
        posterior = vae.encode(pictures * 2 - 1).latent_dist
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        again = vae.decode(latents).sample.float() / 2 + 0.5
        mean, log_variance = posterior.mean * LATENT_SCALE, posterior.logvar + 2 * math.log(LATENT_SCALE)
        return {
            "pixels": (again - pictures).abs().mean() + ((again - pictures) ** 2).mean(),
            "divergence": DIVERGENCE_WEIGHT * losses.divergence(mean.float(), log_variance.float()),
        }

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Picture and what came back."""
        trained, self.network = self.network, network
        pictures = batch["image"].movedim(-1, 1).float() / 255
        again = self.networks.decode(self.networks.encode(pictures)).float()
        self.network = trained
        return [torch.cat(pair, 2) for pair in zip(pictures, again, strict=True)]


class PoseStage(Single):
    """The motion extractor alone: head angles, size, place and neutral keypoints."""

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        pictures = batch["image"].movedim(-1, 1).float() / 255
        pose = pose_of(self.networks.head(pictures))
        degrees = torch.stack(degrees_from_rotation(batch["rotation"]), -1)
        canonical = batch["canonical"][:, list(STUDIO_POINTS)]
        return {
            "degrees": DEGREES_WEIGHT * (pose.degrees - degrees).abs().mean(),
            "scale": (pose.scale - batch["scale"]).abs().mean(),
            "translation": (pose.translation - batch["translation"])[:, :2].abs().mean(),
            "canonical": (pose.canonical - canonical).abs().mean(),
        }

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()

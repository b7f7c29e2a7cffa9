"""What the three stages take as given, for those who train without published weights: a VAE and a pose network.

Both learn from single studio pictures; the pose network from the renderer's truth. Legend: B batch, S picture side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vivant.engines.personalive import losses
from vivant.engines.personalive.data import NUM_LANDMARKS
from vivant.engines.personalive.motion import Pose, pose_of
from vivant.engines.personalive.networks import LATENT_SCALE
from vivant.engines.personalive.stages import NUM_DRAWN, Diffusion
from vivant.ops.constants import constant
from vivant.ops.rotation import degrees_from_rotation
from vivant.training.config import TrainConfig
from vivant.training.data.portraits import PortraitSettings

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

    pairs = False

    def portrait_settings(self, config: TrainConfig) -> PortraitSettings:
        return replace(super().portrait_settings(config), camera_distance=FAR)


class VaeStage(Single):
    """The autoencoder alone: pictures come back, and scaled latents stay near a standard normal."""

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        vae, pictures = self.networks.vae, batch["image"].movedim(-1, 1).float() / 255
        posterior = vae.encode(pictures * 2 - 1).latent_dist
        latents = posterior.mean + posterior.std * torch.randn_like(posterior.mean)
        again = vae.decode(latents).sample.float() / 2 + 0.5
        error, face = again - pictures, self._face(batch["points"], pictures)
        mean, log_variance = posterior.mean * LATENT_SCALE, posterior.logvar + 2 * math.log(LATENT_SCALE)
        return {
            "pixels": (face * (error.abs() + error**2)).mean(),
            "divergence": DIVERGENCE_WEIGHT * losses.divergence(mean.float(), log_variance.float()),
        }

    def _face(self, points: Tensor, pictures: Tensor) -> Tensor:
        """(B, 1, S, S): how much errors count; by `face_weight` more in the face, twice that in eyes and mouth."""
        weight = float(self.settings.extra.get("face_weight", 0.0))
        return 1 + weight * losses.region_mask(points[:, :NUM_LANDMARKS], *pictures.shape[2:])

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Picture and what came back."""
        trained, self.network = self.network, network
        pictures = self.shown(batch)["image"][:NUM_DRAWN].movedim(-1, 1).float() / 255
        again = self.networks.decode(self.networks.encode(pictures)).float()
        self.network = trained
        return [torch.cat(pair, 2) for pair in zip(pictures, again, strict=True)]


class PoseStage(Single):
    """The motion extractor alone: head angles, size, place and neutral keypoints."""

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        pictures = batch["image"].movedim(-1, 1).float() / 255
        pose = pose_of(self.networks.head(pictures))
        degrees = torch.stack(degrees_from_rotation(batch["rotation"]), -1)
        canonical = batch["canonical"].index_select(1, constant(STUDIO_POINTS, pictures.device, torch.long))
        wanted = Pose(degrees, batch["scale"], batch["translation"], canonical)
        return {
            "degrees": DEGREES_WEIGHT * (pose.degrees - degrees).abs().mean(),
            "scale": (pose.scale - batch["scale"]).abs().mean(),
            "translation": (pose.translation - batch["translation"])[:, :2].abs().mean(),
            "canonical": (pose.canonical - canonical).abs().mean(),
            # Of all these, what is drawn and what the face is cut by.
            "keypoints": (pose.keypoints - wanted.keypoints)[..., :2].abs().mean(),
        }

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()

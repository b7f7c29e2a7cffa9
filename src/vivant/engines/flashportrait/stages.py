"""The training stage: what the transformer must say about a noisy clip, told by its own first frame and its faces.

VAE, image encoder and face features are frozen unless a recipe's groups name them. Letters as in losses.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.diffusion.flow_match import noised, velocity
from vivant.engines.flashportrait import losses
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import TIME_FACTOR, Config
from vivant.engines.flashportrait.data import Clips, ClipSettings, Filter
from vivant.engines.flashportrait.known import masked
from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig

if TYPE_CHECKING:
    from vivant.engines.flashportrait.networks import Networks
    from vivant.engines.flashportrait.networks.stream import Conditions


class FlowStage:
    """Flow matching on clips of window_latents latents."""

    talks: ClassVar[bool] = False
    """Whether the data are talking clips."""

    def __init__(
        self,
        config: Config,
        data: Sequence[Session] | Sequence[Path],
        backgrounds: np.ndarray,
        networks: nn.Module,
        filters: tuple[Filter, ...] = (),
    ):
        self.config, self.data, self.backgrounds = config, data, backgrounds
        self.network: nn.Module = networks
        self.filters = filters

    def started(self) -> FlowStage:
        """The stage, ready to learn: what its networks lack is added."""
        return self

    @property
    def num_frames(self) -> int:
        return TIME_FACTOR * (self.config.window_latents - 1) + 1

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = ClipSettings(
            size_px=self.config.image_size,
            face_px=self.config.face_features.image_size,
            num_frames=self.num_frames,
            batch_size=config.batch_size,
            seed=config.seed,
            filters=self.filters,
        )
        return Clips(cast("Sequence[Session]", self.data), self.backgrounds, settings, rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        latents, conditioning, conditions = self.prepared(batch)
        noise = torch.randn_like(latents)
        times = losses.training_times(len(latents), self.config.step_shift, device=latents.device)
        x = torch.cat([noised(latents, noise, times), conditioning], 1)
        predicted = self._networks.transformer(x, times * NUM_TRAINING_TIMES, conditions)
        size = (latents.shape[2], (latents.shape[3], latents.shape[4]))
        face, lips = (losses.latent_mask(batch[name], *size) for name in ("face", "lips"))
        weights = losses.loss_weights(face, lips, losses.focus_of(float(torch.rand(()))))
        return losses.flow_matching(predicted, velocity(latents, noise), weights)

    def prepared(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Conditions]:
        """Latents (B, Z, F, h, w) of the clips, mask and reference (B, 4 + Z, F, h, w), and what is told."""
        from vivant.engines.flashportrait.networks.stream import Conditions

        networks = self._networks
        frames = batch["frames"].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        image = networks.image_encoder(frames[:, :, 0] / 2 + 0.5)
        with torch.no_grad():
            grey = torch.cat([frames[:, :, :1], torch.zeros_like(frames[:, :, 1:])], 2)
            latents, known = (networks.vae.encode_piece(clip, VaeCache()) for clip in (frames, grey))
            faces = batch["faces"].flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
            features = networks.face_features.eval()(faces)
        count = len(frames)
        conditions = Conditions(
            # The first scene: talking.
            text=networks.prompts[:1].expand(count, -1, -1),
            image=image,
            expression=self._expression(features.unflatten(0, (count, -1))),
            expression_scale=torch.ones(count, device=frames.device),
        )
        return latents, masked(known), conditions

    def _expression(self, features: Tensor) -> Tensor:
        """Tokens (B, F, P, E) of the clips' features; now and then of none."""
        tokens = self._networks.portrait_encoder.told(features)
        kept = torch.rand(len(tokens), device=tokens.device) >= losses.EXPRESSION_DROPOUT
        return tokens * kept.view(-1, 1, 1, 1)

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "flashportrait", self.config, network)

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Each clip's last frame: as it is, and as one step from half noise draws it."""
        trained, self.network = self.network, network
        try:
            networks = self._networks
            latents, conditioning, conditions = self.prepared(batch)
            half = torch.full((len(latents),), 0.5, device=latents.device)
            x = noised(latents, torch.randn_like(latents), half)
            said = networks.transformer(
                torch.cat([x, conditioning], 1), half * NUM_TRAINING_TIMES, conditions
            )
            drawn = networks.vae.decode_piece(x - 0.5 * said, VaeCache())[:, :, -1] / 2 + 0.5
        finally:
            self.network = trained
        real = batch["frames"][:, -1].permute(0, 3, 1, 2).float() / 255
        return [picture for pair in zip(real, drawn, strict=True) for picture in pair]

    @property
    def _networks(self) -> Networks:
        return cast("Any", self.network)

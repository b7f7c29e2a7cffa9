"""The family's training: a VAE and a pose network for those who have none, then the three stages of the supplement.

    stage 1  hybrid motion      single frames, any noise level, latents            (all of R, D, E_m, E_p)
    stage 2  distillation       single frames, from noise in 1 to N steps, pixels  (the same; Algorithm 1)
    stage 3  temporal           clips, sliding window                              (temporal modules; Algorithm 2)

arXiv 2512.11253, supplement; what it leaves open is filled from the published program (README.md). Here is
what all have in common, and stage 1; stages 2 and 3 are in `stages_judged.py`. Legend: B batch, F frames, S picture
side, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.diffusion import ddim
from vivant.engines.personalive import losses
from vivant.engines.personalive.config import NUM_TRAINING_STEPS, Config
from vivant.engines.personalive.data import Pairs, share, spoiled_faces
from vivant.engines.personalive.discriminator import Discriminator
from vivant.engines.personalive.motion import cut_faces, draw, face_boxes, pose_of
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.layers import KeysValues
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.personalive.resident import ResidentClips, ResidentFrames, Shots
from vivant.ops.constants import constant
from vivant.studio.dataset import Session
from vivant.training.config import TrainConfig
from vivant.training.data.portraits import Portraits, PortraitSettings

NOISE_OFFSET = 0.05
"""Stage 1: noise that a whole channel shares."""
DROPPED_REFERENCE = 0.1
DROPPED_POSE = 0.1
DROPPED_MOTION = 0.1
DROPPED_TOKENS = 0.3
"""Of reference tokens, per attention and step."""
NUM_DRAWN = 8
"""Rows in `pictures.png`."""


class TrainedNetworks(nn.Module):
    """What a run trains and saves."""

    shard_whole = True
    """Read by vivant.training.distributed: parts are used by their methods, the whole by `forward`."""
    window: Tensor

    def __init__(self, networks: Networks, discriminator: Discriminator | None, window: Tensor | None = None):
        super().__init__()
        self.networks = networks
        self.discriminator = discriminator
        # A buffer, so that a snapshot between two updates on one clip holds it.
        self.register_buffer("window", torch.zeros(0) if window is None else window)

    def forward(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The terms that `compute` makes with the networks; FSDP gathers their weights around it."""
        return compute()


class Diffusion:
    """What the three stages share.

    Settings a recipe may make: `resident`, pictures stay on the device; `drops`, of the published shares of dropped
    conditions, this part; `adversarial` and `perceptual`, instead of the published weights; `most_gain`, see
    `HybridMotionStage`.
    """

    pairs = True
    """Whether an item is two pictures of one person."""

    def __init__(
        self,
        config: Config,
        networks: Networks,
        settings: TrainConfig,
        data: Sequence[Session] | Sequence[Path],
        backgrounds: np.ndarray,
    ):
        self.config, self.settings = config, settings
        self.data, self.backgrounds = data, backgrounds
        self.schedule = ddim.scaled_linear(*config.betas, NUM_TRAINING_STEPS)
        self.recompute = bool(settings.extra.get("recompute", False))
        self.drops = float(settings.extra.get("drops", 1.0))
        self.on_device: ResidentFrames | ResidentClips | None = None
        self.network: nn.Module = self._trained(networks)

    def _trained(self, networks: Networks) -> TrainedNetworks:
        return TrainedNetworks(networks, None)

    @property
    def networks(self) -> Networks:
        return _networks(self.network)

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = self.portrait_settings(config)
        if config.extra.get("resident"):
            return Shots(self.sessions, settings, len(self.backgrounds), rank)
        portraits = Portraits(self.sessions, settings, self.backgrounds, rank)
        return Pairs(portraits) if self.pairs else portraits

    def portrait_settings(self, config: TrainConfig) -> PortraitSettings:
        """How pictures are cut."""
        return PortraitSettings(
            size_px=int(config.extra["size_px"]),
            batch_size=config.batch_size,
            seed=config.seed,
            pairs=self.pairs,
            contrast=float(config.extra.get("contrast", 0.0)),
        )

    @property
    def sessions(self) -> list[Session]:
        """The data, of a stage that learns from single frames."""
        return [item for item in self.data if isinstance(item, Session)]

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The stage's terms."""
        shown = self.shown(batch)
        return self.network(lambda: self.terms(shown, progress))

    def shown(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pictures of an item: itself, or what its numbers mean."""
        device = next(iter(batch.values())).device
        if self.schedule.alphas_cumprod.device != device:
            self.schedule = ddim.Schedule(self.schedule.alphas_cumprod.to(device))
        if not self.settings.extra.get("resident"):
            return batch
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            if self.on_device is None:
                self.on_device = self.resident(device)
            return self.on_device.batch(batch)

    def resident(self, device: torch.device) -> ResidentFrames | ResidentClips:
        """All that the stage learns from."""
        settings = self.portrait_settings(self.settings)
        return ResidentFrames.of(self.sessions, settings, self.backgrounds, device)

    def levels(self, device: torch.device) -> Tensor:
        """(N,): the config's steps, the oldest first."""
        return constant(self.config.timesteps, device, torch.long)

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """What `losses` is made of."""
        raise NotImplementedError

    def references(self, reference: Tensor, *, drops: bool) -> tuple[Tensor, list[KeysValues]]:
        """Pictures (B, 3, S, S) -> the identity token, keys and values; where it drops, of a part of the tokens."""
        networks = self.networks
        with torch.no_grad():
            latents = networks.encode(reference)
            token = networks.identity_token(reference)
        tokens = networks.reference_unet(latents, token, recompute=self.recompute)
        if drops:
            tokens = [_thinned(seen, self.drops * DROPPED_TOKENS) for seen in tokens]
        return token, networks.denoiser.project_references(tokens)

    def signals(self, driving: Tensor, *, drops: bool) -> tuple[Tensor, Tensor]:
        """Frames (B, F, 3, S, S) -> motion tokens (B, F, L, C) and pose features (B, F, C, h, w).

        The driving frame's own keypoints are drawn, as published. Where it drops, some rows are all zeros.
        """
        networks, shape = self.networks, driving.shape[:2]
        frames = driving.flatten(0, 1)
        with torch.no_grad():
            keypoints = pose_of(networks.head(frames)).keypoints
            drawing = draw(keypoints, *frames.shape[2:])
            boxes = face_boxes(keypoints, *frames.shape[2:])
            faces = cut_faces(frames, boxes, self.config.motion_encoder.image_size).unflatten(0, shape)
            faces = spoiled_faces(faces) if drops else faces
        motion = networks.motion_tokens(faces.flatten(0, 1)).unflatten(0, shape)
        pose = networks.pose_features(drawing).unflatten(0, shape)
        if drops:
            motion, pose = self.dropped(motion, pose)
        return motion, pose

    def dropped(self, motion: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Some rows are all zeros."""
        return (
            _some_rows(motion, self.drops * DROPPED_MOTION),
            _some_rows(pose, self.drops * DROPPED_POSE),
        )

    def conditions(self, batch: dict[str, Tensor], *, drops: bool, temporal: bool) -> Conditions:
        """What the denoiser looks at for a whole batch."""
        token, references = self.references(as_pictures(batch["reference"]), drops=drops)
        motion, pose = self.signals(as_pictures(batch["driving"]), drops=drops)
        skips = drops and share(batch["draw_reference"]) < self.drops * DROPPED_REFERENCE
        return Conditions(
            identity=self.networks.denoiser.embed_identity(token),
            references=None if skips else references,
            motion=motion,
            pose=pose,
            temporal=temporal,
            recompute=self.recompute,
        )

    def drawn(self, latents: Tensor, steps: Tensor, conditions: Conditions) -> Tensor:
        """x0 of latents (B, F, 4, h, w) at steps (F,), float32."""
        epsilon = self.networks.denoise(latents, steps.expand(len(latents), -1), conditions)
        return ddim.clean(self.schedule, latents, epsilon.float(), steps)

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "personalive", self.config, _networks(network))

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Reference, driving, drawn from noise in all steps: one row per picture."""
        trained, self.network = self.network, network
        try:
            batch = {name: rows[:NUM_DRAWN] for name, rows in self.shown(batch).items()}
            batch["driving"] = batch["driving"][:, :1]
            conditions = self.conditions(batch, drops=False, temporal=False)
            driving = as_pictures(batch["driving"])
            levels = self.levels(driving.device)
            latents = torch.randn(self._latent_shape(driving), device=driving.device)
            for level in reversed(range(len(levels))):
                clean = self.drawn(latents, levels[level : level + 1], conditions)
                if level:
                    latents = self.again(clean, levels[level - 1 : level])
            drawn = self.networks.decode(clean[:, 0])
        finally:
            self.network = trained
        rows = zip(as_pictures(batch["reference"]), driving[:, 0], drawn.float(), strict=True)
        return [torch.cat(row, 2) for row in rows]

    def again(self, clean: Tensor, steps: Tensor) -> Tensor:
        """Psi: clean latents with fresh noise."""
        return ddim.noised(self.schedule, clean, torch.randn_like(clean), steps)

    def _latent_shape(self, driving: Tensor) -> tuple[int, ...]:
        side = driving.shape[-1] // 8
        return (*driving.shape[:2], 4, side, side)


class HybridMotionStage(Diffusion):
    """Stage 1. Single frames at a random noise level; the loss is on clean latents, twice in the face.

    An error of the predicted noise is an error of clean latents times the square root of (1 - a) / a: at the noisiest
    levels so large that they hide all others. With `most_gain` no error of the noise counts more than that often.
    """

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        driving = as_pictures(batch["driving"])
        conditions = self.conditions(batch, drops=True, temporal=False)
        with torch.no_grad():
            target = self.networks.encode(driving[:, 0]).float()
        offset = torch.randn(*target.shape[:2], 1, 1, device=target.device)
        noise = torch.randn_like(target) + NOISE_OFFSET * offset
        # Every picture has its own level: B pictures stand where frames usually do.
        steps = torch.randint(NUM_TRAINING_STEPS, (len(target),), device=target.device)
        latents = ddim.noised(self.schedule, target[None], noise[None], steps)
        epsilon = self.networks.denoise(latents.transpose(0, 1), steps[:, None], conditions).float()
        clean = ddim.clean(self.schedule, latents, epsilon.transpose(0, 1), steps)[0]
        mask = losses.region_mask(batch["points"][:, 0], *target.shape[2:])
        gain = self.settings.extra.get("most_gain")
        if gain is not None:
            alpha = self.schedule.at(steps, latents)[0]
            weight = (gain * alpha / (1 - alpha)).clamp(max=1).sqrt()
            clean, target = weight * clean, weight * target
        return {"latent": losses.masked_mse(clean, target, mask)}


def _networks(network: nn.Module) -> Networks:
    assert isinstance(network, TrainedNetworks)
    return network.networks


def as_pictures(pixels: Tensor) -> Tensor:
    """uint8 (..., S, S, 3) -> float (..., 3, S, S) in [0, 1]."""
    return pixels.movedim(-1, -3).float() / 255


def _thinned(tokens: Tensor, dropped: float) -> Tensor:
    """(B, L, C) without a share of L."""
    count = tokens.shape[1]
    kept = torch.randperm(count, device=tokens.device)[: max(1, round(count * (1 - dropped)))]
    return tokens.index_select(1, kept)


def _some_rows(x: Tensor, dropped: float) -> Tensor:
    """x (B, ...) with a share of its rows zero."""
    keep = (torch.rand(len(x), device=x.device) >= dropped).to(x.dtype)
    return x * keep.view(-1, *[1] * (x.dim() - 1))

"""The family's training: what sees heads and faces for those who have none, then the three stages of the supplement.

    stage 1  hybrid motion      single frames, any noise level, latents            (all of R, D, E_m, E_p)
    stage 2  distillation       single frames, from noise in 1 to N steps, pixels  (the same; Algorithm 1)
    stage 3  temporal           clips, sliding window                              (temporal modules; Algorithm 2)

arXiv 2512.11253, supplement; what it leaves open is filled from the published program (README.md). Here is
what all have in common, and stage 1; stages 2 and 3 are in `stages_judged.py`. Legend: B batch, F frames, S picture
side, Z latent channels, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.diffusion import ddim
from vivant.engines.personalive import losses
from vivant.engines.personalive.config import NUM_TRAINING_STEPS, Config
from vivant.engines.personalive.data import ClipCuts, ClipSettings, Pairs, share, spoiled_faces
from vivant.engines.personalive.discriminator import Discriminator
from vivant.engines.personalive.heads import heads_of, wobbled
from vivant.engines.personalive.motion import Pose, bent_portraits, cut_faces, draw, face_boxes, pose_of
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.layers import KeysValues
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.personalive.resident import ResidentClips
from vivant.engines.personalive.solving import solve_vae
from vivant.engines.personalive.streaming import meant
from vivant.ops import fused
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
LEAST_NOISE = 0.25
"""Stage 1 at the engine's levels: errors at levels that are less noisy count as if they were this noisy."""
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


@dataclass(frozen=True)
class Signals:
    """What drives frames."""

    motion: Tensor
    """(B, F, L, C)."""
    pose: Tensor
    """(B, F, C, h, w)."""
    known: Tensor | None
    """(B, F, Z, h, w): see Conditions."""


Heads: TypeAlias = tuple[Pose, Pose]
"""Of frames, and of pictures."""


class Diffusion:
    """What the three stages share.

    Settings a recipe may make: `resident`, pictures are those of talking clips and stay on the device, `graded` there;
    `drops`, of the published shares of dropped conditions, this part; `spoils`, whether face crops are spoiled;
    `adversarial` and `perceptual`, instead of the published weights; `focus`, see `losses.masked_mse`; `at_levels`, see
    `HybridMotionStage`.
    """

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
        self.spoils = bool(settings.extra.get("spoils", True))
        self.focus = float(settings.extra.get("focus", 1.0))
        self.clips: ResidentClips | None = None
        if networks.solved and self.paths and not networks.vae.solved:
            solve_vae(networks.vae, self.paths, config.image_size)
        self.network: nn.Module = self._trained(networks)

    def _trained(self, networks: Networks) -> TrainedNetworks:
        return TrainedNetworks(networks, None)

    @property
    def networks(self) -> Networks:
        return _networks(self.network)

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        size = int(config.extra["size_px"])
        if config.extra.get("resident"):
            cuts = ClipSettings(
                size_px=size,
                batch_size=config.batch_size,
                seed=config.seed,
                num_frames=1,
                stride=1,
                updates_per_clip=1,
                graded=bool(config.extra.get("graded", False)),
            )
            return ClipCuts(self.paths, cuts, rank)
        settings = PortraitSettings(size_px=size, batch_size=config.batch_size, seed=config.seed, pairs=True)
        return Pairs(Portraits(self.sessions, settings, self.backgrounds, rank))

    @property
    def sessions(self) -> list[Session]:
        """The data, of a stage that learns from single frames."""
        return [item for item in self.data if isinstance(item, Session)]

    @property
    def paths(self) -> list[Path]:
        """The data: clips."""
        return [item for item in self.data if isinstance(item, Path)]

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The stage's terms."""
        self._rest()
        shown = self.shown(batch)
        # Steps without a gradient go the way of those that have one.
        with fused.plainly():
            return self.network(lambda: self.terms(shown, progress))

    def shown(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pictures of an item: itself, or what its numbers mean."""
        device = next(iter(batch.values())).device
        if self.schedule.alphas_cumprod.device != device:
            self.schedule = ddim.Schedule(self.schedule.alphas_cumprod.to(device))
        if not self.settings.extra.get("resident"):
            return batch
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return self.resident(device).batch(batch)

    def resident(self, device: torch.device) -> ResidentClips:
        """All that the stage learns from, read when it is first asked for."""
        if self.clips is None:
            self.clips = ResidentClips.of(self.paths, int(self.settings.extra["size_px"]), device)
        return self.clips

    def _rest(self) -> None:
        """A motion encoder that does not learn keeps the statistics that it has learned."""
        encoder = self.networks.motion_encoder
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            encoder.eval()

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
        tokens = networks.reference_tokens(latents, token, recompute=self.recompute)
        if drops:
            tokens = [_thinned(seen, self.drops * DROPPED_TOKENS) for seen in tokens]
        return token, networks.denoiser.project_references(tokens)

    def signals(self, driving: Tensor, reference: Tensor, heads: Heads, *, drops: bool) -> Signals:
        """Frames (B, F, 3, S, S) of the people of pictures (B, 3, S, S), and their heads.

        The driving frame's own keypoints are drawn, as published; where differences to the bent portrait are drawn, the
        portrait's, as the engine does it. Where it drops, some rows are all zeros.
        """
        networks, shape = self.networks, driving.shape[:2]
        frames = driving.flatten(0, 1)
        with torch.no_grad():
            poses, own = heads
            keypoints, known = poses.keypoints, None
            drawn = keypoints
            if self.config.draws_differences:
                shapes = own.canonical.repeat_interleave(shape[1], 0)
                drawn = Pose(poses.degrees, poses.scale, poses.translation, shapes).keypoints
                bent = bent_portraits(reference, own.keypoints, drawn.unflatten(0, shape))
                known = networks.encode(bent.flatten(0, 1)).float().unflatten(0, shape)
            drawing = draw(drawn, *frames.shape[2:])
            boxes = face_boxes(keypoints, *frames.shape[2:])
            faces = cut_faces(frames, boxes, self.config.motion_encoder.image_size).unflatten(0, shape)
            faces = spoiled_faces(faces) if drops and self.spoils else faces
        motion = networks.motion_tokens(faces.flatten(0, 1)).unflatten(0, shape)
        pose = networks.pose_features(drawing).unflatten(0, shape)
        if drops:
            motion, pose = self.dropped(motion, pose)
        return Signals(motion, pose, known)

    def heads(self, batch: dict[str, Tensor], seen: slice = slice(None)) -> Heads:
        """Of the driving frames `seen`, (B F), and of the references, (B), as the engine would see them."""
        with torch.no_grad():
            if self.config.reads_mesh:
                points = batch["points"][:, seen].flatten(0, 1), batch["reference_points"]
                with torch.autocast(points[0].device.type, enabled=False):
                    driving, reference = (wobbled(heads_of(own)) for own in points)
                return driving, reference
            pictures = as_pictures(batch["driving"][:, seen]).flatten(0, 1), as_pictures(batch["reference"])
            driving, reference = (pose_of(self.networks.head(own)) for own in pictures)
        return driving, reference

    def dropped(self, motion: Tensor, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Some rows are all zeros."""
        return (
            _some_rows(motion, self.drops * DROPPED_MOTION),
            _some_rows(pose, self.drops * DROPPED_POSE),
        )

    def conditions(self, batch: dict[str, Tensor], *, drops: bool, temporal: bool) -> Conditions:
        """What the denoiser looks at for a whole batch."""
        reference = as_pictures(batch["reference"])
        token, references = self.references(reference, drops=drops)
        signals = self.signals(as_pictures(batch["driving"]), reference, self.heads(batch), drops=drops)
        skips = drops and share(batch["draw_reference"]) < self.drops * DROPPED_REFERENCE
        return Conditions(
            identity=self.networks.denoiser.embed_identity(token),
            references=None if skips else references,
            motion=signals.motion,
            pose=signals.pose,
            known=signals.known,
            temporal=temporal,
            recompute=self.recompute,
        )

    def drawn(self, latents: Tensor, steps: Tensor, conditions: Conditions) -> Tensor:
        """x0 of latents (B, F, Z, h, w) at steps (F,), float32."""
        answers = self.networks.denoise(latents, steps.expand(len(latents), -1), conditions).float()
        return meant(self.config, self.schedule, latents, answers, steps)[0]

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "personalive", self.config, _networks(network))

    @torch.no_grad()
    @fused.plainly()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Reference, driving, drawn from noise in all steps: one row per picture."""
        trained, self.network = self.network, network
        try:
            batch = {name: rows[:NUM_DRAWN] for name, rows in self.shown(batch).items()}
            batch |= {name: batch[name][:, :1] for name in ("driving", "points")}
            conditions = self.conditions(batch, drops=False, temporal=False)
            driving = as_pictures(batch["driving"])
            levels = self.levels(driving.device)
            latents = torch.randn(self._latent_shape(driving), device=driving.device)
            for level in reversed(range(len(levels))):
                clean = self.drawn(latents, levels[level : level + 1], conditions)
                if level:
                    latents = self.again(clean, levels[level - 1 : level])
            drawn = self.networks.decode(whole(clean, conditions)[:, 0])
        finally:
            self.network = trained
        rows = zip(as_pictures(batch["reference"]), driving[:, 0], drawn.float(), strict=True)
        return [torch.cat(row, 2) for row in rows]

    def again(self, clean: Tensor, steps: Tensor) -> Tensor:
        """Psi: clean latents with fresh noise."""
        return ddim.noised(self.schedule, clean, torch.randn_like(clean), steps)

    def _latent_shape(self, driving: Tensor) -> tuple[int, ...]:
        side = driving.shape[-1] // 8
        return (*driving.shape[:2], self.config.unet.latent_channels, side, side)


class HybridMotionStage(Diffusion):
    """Stage 1. Single frames at a random noise level; the loss is on clean latents, twice in the face.

    With `at_levels` only the levels at which the engine draws are learned, and errors count as those of velocities do,
    which near the clean end are divided by nearly nothing: at most LEAST_NOISE times less.
    """

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        driving = as_pictures(batch["driving"])
        conditions = self.conditions(batch, drops=True, temporal=False)
        with torch.no_grad():
            target = self.networks.encode(driving[:, 0]).float()
            if conditions.known is not None:
                target = target - conditions.known[:, 0]
        noise = torch.randn_like(target)
        levels = self.levels(target.device)
        at_levels = bool(self.settings.extra.get("at_levels", False))
        if at_levels:
            steps = levels[torch.randint(len(levels), (len(target),), device=target.device)]
        else:
            noise = noise + NOISE_OFFSET * torch.randn(*target.shape[:2], 1, 1, device=target.device)
            steps = torch.randint(NUM_TRAINING_STEPS, (len(target),), device=target.device)
        # Every picture has its own level: B pictures stand where frames usually do.
        latents = ddim.noised(self.schedule, target[None], noise[None], steps)
        answers = self.networks.denoise(latents.transpose(0, 1), steps[:, None], conditions).float()
        clean = meant(self.config, self.schedule, latents, answers.transpose(0, 1), steps)[0][0]
        mask = losses.region_mask(batch["points"][:, 0], *target.shape[2:])
        if at_levels:
            remains = 1 - self.schedule.at(steps, latents)[0]
            weight = remains.clamp(min=LEAST_NOISE).rsqrt()
            clean, target = weight * clean, weight * target
        return {"latent": losses.masked_mse(clean, target, mask, self.focus)}


def whole(clean: Tensor, conditions: Conditions) -> Tensor:
    """Latents (B, F, Z, h, w) of frames, of what was drawn."""
    return clean if conditions.known is None else clean + conditions.known


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

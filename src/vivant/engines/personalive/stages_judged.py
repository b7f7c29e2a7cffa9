"""Stages 2 and 3, which decode what they draw: distillation on single frames, then the window that slides over clips.

Legend: B batch, F frames, S picture side, h w latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint as recomputed
from torch.utils.data import Dataset

from vivant.engines.personalive import losses
from vivant.engines.personalive.data import ClipCuts, Clips, ClipSettings, share
from vivant.engines.personalive.discriminator import Discriminator
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.networks.unet import Conditions
from vivant.engines.personalive.stages import Diffusion, TrainedNetworks, as_pictures, whole
from vivant.training.config import TrainConfig

PERCEPTUAL_WEIGHT, ADVERSARIAL_WEIGHT = 2.0, 0.05


class Judged(Diffusion):
    """Stages 2 and 3: pictures are compared and, where the recipe has a judge, judged."""

    def _trained(self, networks: Networks) -> TrainedNetworks:
        extra = self.settings.extra
        if "channel_base" not in extra:
            return TrainedNetworks(networks, None)
        return TrainedNetworks(networks, Discriminator(int(extra["size_px"]), int(extra["channel_base"])))

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        """Maps of the frozen VAE's encoder, which stand where the paper has VGG's."""
        encoder = self.networks.vae.encoder
        x = encoder.conv_in(pictures * 2 - 1)
        maps = []
        for block in encoder.down_blocks:
            x = block(x)
            maps.append(x)
        return maps

    def compared(
        self, clean: Tensor, steps: Tensor, target: Tensor, points: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """Terms of latents (B, F, Z, h, w) drawn from steps (F,) against pictures (B, F, 3, S, S) in [0, 1].

        Errors count in [-1, 1]; points (B, F, 68, 2).
        """
        flat = clean.flatten(0, 1)
        chunks = flat.split(int(self.settings.extra.get("decode_frames", len(flat))))
        drawn = torch.cat([self._decoded(chunk) for chunk in chunks])
        drawn, target = drawn.float(), target.flatten(0, 1)
        mask = losses.region_mask(points.flatten(0, 1), *target.shape[2:])
        if self.networks.solved:
            terms = losses.pixel_terms(drawn * 2 - 1, target * 2 - 1, mask, self.focus)
        else:
            weight = float(self.settings.extra.get("perceptual", PERCEPTUAL_WEIGHT))
            terms = {
                "pixels": losses.masked_mse(drawn * 2, target * 2, mask, self.focus),
                "perceptual": weight * losses.perceptual(self.features, drawn, target),
            }
        times = steps.expand(len(clean), -1).flatten()
        return terms | self._judged(drawn * 2 - 1, target * 2 - 1, times, progress)

    def _decoded(self, latents: Tensor) -> Tensor:
        if not self.recompute:
            return self.networks.decode(latents)
        decoded: Tensor = recomputed(self.networks.decode, latents, use_reentrant=False)
        return decoded

    def _judged(self, drawn: Tensor, target: Tensor, steps: Tensor, progress: float) -> dict[str, Tensor]:
        """Both sides at once: the judge sees detached pictures, the networks a frozen judge."""
        trained = self.network
        assert isinstance(trained, TrainedNetworks)
        judge = trained.discriminator
        terms: dict[str, Tensor] = {}
        if judge is None:
            return terms
        extra = self.settings.extra
        if progress >= extra["judge_from"]:
            terms["judge"] = losses.discriminator_loss(judge(target, steps), judge(drawn.detach(), steps))
        if progress >= extra["judged_from"]:
            frozen = {name: value.detach() for name, value in judge.named_parameters()}
            score = functional_call(judge, frozen, (drawn, steps))
            weight = float(extra.get("adversarial", ADVERSARIAL_WEIGHT))
            terms["judged"] = weight * losses.generator_loss(score)
        return terms


class DistillationStage(Judged):
    """Stage 2, Algorithm 1: from pure noise, n steps of which the last has a gradient."""

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        driving = as_pictures(batch["driving"])
        conditions = self.conditions(batch, drops=True, temporal=False)
        levels = self.levels(driving.device)
        num_steps = 1 + int(share(batch["draw_depth"]) * len(levels))
        latents = torch.randn(self._latent_shape(driving), device=driving.device)
        last = len(levels) - num_steps
        with torch.no_grad():
            for level in range(len(levels) - 1, last, -1):
                clean = self.drawn(latents, levels[level : level + 1], conditions)
                latents = self.again(clean, levels[level - 1 : level])
        steps = levels[last : last + 1]
        drawn = whole(self.drawn(latents, steps, conditions), conditions)
        return self.compared(drawn, steps, driving, batch["points"], progress)


class TemporalStage(Judged):
    """Stage 3, Algorithm 2: the window slides over a clip; every N - 1 slides there is an update on all of it.

    The algorithm makes several updates on one clip. Here each is one step of the trainer, and the window waits in a
    buffer between them.
    """

    def _trained(self, networks: Networks) -> TrainedNetworks:
        trained = super()._trained(networks)
        config, settings = self.config, self.settings
        side = int(settings.extra["size_px"]) // 8
        shape = (settings.batch_size, config.delay_frames, config.unet.latent_channels, side, side)
        return TrainedNetworks(networks, trained.discriminator, torch.zeros(shape))

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = ClipSettings(
            size_px=int(config.extra["size_px"]),
            batch_size=config.batch_size,
            seed=config.seed,
            num_frames=int(config.extra["num_frames"]),
            stride=int(config.extra["stride"]),
            updates_per_clip=self.updates_per_clip,
            graded=bool(config.extra.get("graded", False)),
        )
        return (ClipCuts if config.extra.get("resident") else Clips)(self.paths, settings, rank)

    @property
    def updates_per_clip(self) -> int:
        """Windows of a clip that have a gradient: the first, and every (N - 1)-th after it."""
        config = self.config
        slides = int(self.settings.extra["num_frames"]) // config.chunk_frames - config.num_chunks
        return slides // max(1, config.num_chunks - 1) + 1

    def terms(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        trained, networks = self.network, self.networks
        assert isinstance(trained, TrainedNetworks)
        networks.eval()  # batch norm stays as it was learned
        driving, phase = as_pictures(batch["driving"]), len(batch["phase"])
        length, apart = self.config.chunk_frames, max(1, self.config.num_chunks - 1)
        steps = self.levels(driving.device).repeat_interleave(length)
        with torch.no_grad():
            reference = as_pictures(batch["reference"])
            token, references = self.references(reference, drops=True)
            fixed = {"identity": networks.denoiser.embed_identity(token), "references": references}
            enters = partial(self._entered, batch=batch, fixed=fixed)
            if phase == 0:
                first = driving[:, : self.config.delay_frames]
                clean = networks.encode(first.flatten(0, 1)).float().unflatten(0, first.shape[:2])
                heads = self.heads(batch, slice(self.config.delay_frames))
                known = self.signals(first, reference, heads, drops=False).known
                clean = clean if known is None else clean - known
                window = self.again(clean, steps[: self.config.delay_frames])
            else:
                window = trained.window.clone()
                for slide in range(apart * (phase - 1) + 1, apart * phase):
                    latents, conditions = enters(window, slide)
                    window = self._slid(self.drawn(latents, steps, conditions), steps)
            latents, conditions = enters(window, apart * phase)
        clean = self.drawn(latents, steps, conditions)
        start = apart * phase * length
        seen = slice(start, start + self.config.window_frames)
        drawn = whole(clean, conditions)
        terms = self.compared(drawn, steps, driving[:, seen], batch["points"][:, seen], progress)
        trained.window.copy_(self._slid(clean.detach(), steps))
        return terms

    def _entered(
        self, window: Tensor, slide: int, batch: dict[str, Tensor], fixed: dict[str, Any]
    ) -> tuple[Tensor, Conditions]:
        """The window with a chunk of pure noise at its end, and what drives it."""
        start = slide * self.config.chunk_frames
        seen = slice(start, start + self.config.window_frames)
        driving, reference = as_pictures(batch["driving"][:, seen]), as_pictures(batch["reference"])
        signals = self.signals(driving, reference, self.heads(batch, seen), drops=False)
        motion, pose = self.dropped(signals.motion, signals.pose)
        noise = torch.randn(len(driving), self.config.chunk_frames, *window.shape[2:], device=driving.device)
        conditions = Conditions(
            motion=motion, pose=pose, known=signals.known, recompute=self.recompute, **fixed
        )
        return torch.cat([window, noise], 1), conditions

    def _slid(self, clean: Tensor, steps: Tensor) -> Tensor:
        """All chunks but the first, one level down, with fresh noise."""
        length = self.config.chunk_frames
        return self.again(clean[:, length:], steps[:-length])

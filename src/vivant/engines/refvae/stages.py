"""The stages: the VAE on short clips, both towers of the sync expert, then the generator under teacher forcing.

Each begins from the export of another and exports the whole checkpoint, so any chain of runs ends in one engine.
Legend: B clips, T frames, M references, L latents in time, S picture side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.diffusion.flow_match import logit_normal_times, noised, velocity
from vivant.engines.refvae import losses
from vivant.engines.refvae.config import Config
from vivant.engines.refvae.data import (
    Cut,
    Footage,
    Moments,
    MomentSettings,
    Windows,
    WindowSettings,
    as_references,
    as_video,
)
from vivant.engines.refvae.encoded import Cuts, CutSettings, EncodedClips
from vivant.engines.refvae.losses import Features
from vivant.engines.refvae.networks import Networks
from vivant.engines.refvae.stages_start import fold_time, solve_start
from vivant.engines.refvae.sync_expert import SyncExpert, face_tower
from vivant.engines.refvae.vae import Chain
from vivant.training.config import TrainConfig
from vivant.training.distributed import mean_over_ranks

SCALE_MOMENTUM = 0.02
"""How fast the scale of the latents follows the VAE while it learns."""
MIN_SPREAD = 1e-3
START_PICTURES = 480
FROM_START = 0.5
"""Share of the generator's windows that begin a stream. The paper does not say."""


class TrainedNetworks(nn.Module):
    """What a run trains and saves."""

    shard_whole = True
    """Read by vivant.training.distributed: parts are used by their methods, the whole by `forward`."""

    def __init__(
        self, networks: Networks, face_encoder: nn.Module | None = None, teacher: nn.Module | None = None
    ):
        super().__init__()
        self.networks, self.face_encoder, self.teacher = networks, face_encoder, teacher

    def forward(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The terms that `compute` makes with the networks; FSDP gathers their weights around it."""
        return compute()


class RefVaeStage:
    """What the three share."""

    def __init__(
        self,
        config: Config,
        networks: Networks,
        clips: Sequence[Path],
        settings: TrainConfig,
        features: Features | None = None,
    ):
        self.config, self.clips, self.settings, self.features = config, clips, settings, features
        # A third faster on a CPU, where convolutions are narrow. FSDP takes plain layouts only.
        for module in networks.vae.modules():
            if isinstance(module, nn.Conv3d) and settings.sharding == "replicate":
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        for part in networks.vae.modules():
            if isinstance(part, Chain):
                part.recompute = bool(settings.extra.get("recompute", False))
        self.network: nn.Module = self._trained(networks)

    def _trained(self, networks: Networks) -> TrainedNetworks:
        return TrainedNetworks(networks)

    @property
    def networks(self) -> Networks:
        return _trained(self.network).networks

    def begin(self) -> None:
        """Called once for a stage whose networks start at random."""

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        raise NotImplementedError

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        """The stage's terms."""
        return cast("dict[str, Tensor]", self.network(lambda: self.terms(batch)))

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `losses` is made of."""
        raise NotImplementedError

    def export(self, network: nn.Module, folder: Path) -> None:
        checkpoint.save(folder, "refvae", self.config, _trained(network).networks)

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()


class VaeStage(RefVaeStage):
    """The video VAE with its references, and the scale of its latents (section 3; the schedule is the recipes').

    extra: `size_px`, `num_frames`, `max_references`, and optionally `without_references`, `near_mouths`,
    `solved_start`, weights `part_weight` (mouth and eyes), `divergence_weight` and `perceptual_weight`, and
    `latent_noise`, of which clips get 0 to this share of the latents' spread.
    """

    def begin(self) -> None:
        """Before the first step of a run from nothing: a start that is solved, where the recipe asks for it."""
        if not self.settings.extra.get("solved_start", False):
            return
        settings = WindowSettings(
            cut=Cut.of(self.config, int(self.settings.extra["size_px"])),
            batch_size=START_PICTURES,
            seed=self.settings.seed + 1,
            num_frames=1,
            max_references=1,
        )
        video, references = self._shown(Windows(self.clips, settings)[0], 1)
        solve_start(self.networks.vae, video[:, :, 0].contiguous(), references[:, 0])

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = WindowSettings(
            cut=Cut.of(self.config, int(config.extra["size_px"])),
            batch_size=config.batch_size,
            seed=config.seed,
            num_frames=self._num_frames,
            max_references=int(config.extra["max_references"]),
            without_references=float(config.extra.get("without_references", 0.0)),
            near_mouths=float(config.extra.get("near_mouths", 0.0)),
        )
        return Windows(self.clips, settings, rank)

    @cached_property
    def footage(self) -> Footage:
        """Pictures of all clips."""
        return Footage(self.clips)

    def _shown(self, windows: dict[str, Tensor], num_frames: int) -> tuple[Tensor, Tensor]:
        """Video (B, 3, T, S, S) and references (B, M, 3, S, S), in [-1, 1]."""
        frames, references = self.footage.pictures(windows, num_frames)
        return as_video(frames), as_references(references)

    @property
    def _num_frames(self) -> int:
        return int(self.settings.extra["num_frames"])

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        vae = self.networks.vae
        video, pictures = self._shown(batch, self._num_frames)
        mean, log_variance = (part.float() for part in vae.encode(video))
        is_whole = int(batch["size_px"]) == int(self.settings.extra["size_px"])
        if is_whole and any(parameter.requires_grad for parameter in vae.deep_encoder.parameters()):
            follow_scale(self.networks, mean.detach())
        references = vae.encode_references(pictures)
        latents = losses.sampled(mean, log_variance)
        if noise := float(self.settings.extra.get("latent_noise", 0.0)):
            level = noise * torch.rand(len(latents), 1, 1, 1, 1, device=latents.device)
            latents = latents + level * self.networks.latent_std.view(-1, 1, 1, 1) * torch.randn_like(latents)
        drawn = vae.decode(latents, references).float()
        weight = float(self.settings.extra.get("part_weight", 1.0))
        weights = losses.part_weights(batch["points"], video.shape[-1], weight, (losses.MOUTH, *losses.EYES))
        terms = {
            "pixels": (weights * (drawn - video).abs()).mean(),
            "divergence": float(self.settings.extra.get("divergence_weight", losses.KL_WEIGHT))
            * losses.divergence(mean, log_variance),
        }
        # Features and the scale of latents are those of whole faces.
        if is_whole and self.features is not None:
            share = float(self.settings.extra.get("perceptual_weight", 1.0))
            terms["perceptual"] = share * losses.perceptual(self.features, drawn, video)
        return terms

    def export(self, network: nn.Module, folder: Path) -> None:
        if self._num_frames == 1:
            network = deepcopy(network)
            fold_time(_trained(network).networks.vae)
        super().export(network, folder)

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """A reference, or each clip's first frame where there is none, its last frame, and what came back of it."""
        vae = _trained(network).networks.vae
        video, references = self._shown(batch, self._num_frames)
        drawn = vae.decode(vae.encode(video)[0], vae.encode_references(references)).float()
        shown = references[:, 0] if references.shape[1] else video[:, :, 0]
        rows = zip(shown, video[:, :, -1], drawn[:, :, -1], strict=True)
        return [torch.cat(row, 2) / 2 + 0.5 for row in rows]


@torch.no_grad()
def follow_scale(networks: Networks, mean: Tensor) -> None:
    """Move latent_mean and latent_std towards those of latents (B, Z, L, h, w), of all processes together.

    Each process would else noise latents at a scale of its own, and only the first one's would be saved.
    """
    flat = mean.movedim(1, 0).flatten(1)
    here, here_square = mean_over_ranks(torch.stack([flat.mean(1), flat.square().mean(1)]))
    square = networks.latent_std.square() + networks.latent_mean.square()
    square = torch.lerp(square, here_square, SCALE_MOMENTUM)
    networks.latent_mean.lerp_(here, SCALE_MOMENTUM)
    networks.latent_std.copy_((square - networks.latent_mean.square()).clamp(min=MIN_SPREAD**2).sqrt())


class SyncStage(RefVaeStage):
    """Audio tower and face tower: what belongs together, told from other moments of the same clip and from others.

    `export` holds the checkpoint with the new audio tower, and in `lipsync_expert/` both towers, which
    `vivant evaluate --weights sync-expert=.../lipsync_expert/model.safetensors` measures with.
    """

    def _trained(self, networks: Networks) -> TrainedNetworks:
        return TrainedNetworks(networks, face_tower(self.config.audio_widths))

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = MomentSettings(
            batch_size=config.batch_size,
            seed=config.seed,
            lead_frames=self.config.audio_lead_frames,
            moments_per_clip=int(config.extra["moments_per_clip"]),
            min_shift_frames=int(config.extra["min_shift_frames"]),
        )
        return Moments(self.clips, settings, rank)

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        expert = _expert(self.network, self.config)
        lips = expert.embed_faces(batch["faces"].float() / 255).float()
        return {"sync": losses.contrastive(lips, expert.embed_sound(batch["sounds"]).float())}

    def export(self, network: nn.Module, folder: Path) -> None:
        super().export(network, folder)
        expert = _expert(network, self.config)
        checkpoint.save(folder / "lipsync_expert", "refvae-sync-expert", self.config, expert)


class GeneratorStage(RefVaeStage):
    """Flow matching on whole windows: noisy blocks, each after its own, less noisy past (Algorithm 1).

    extra: `size_px`, `max_references`, `num_crops`, and optionally weights `mouth_weight` (cells) and `lips_weight`,
    and `time_mean`, of times before the sigmoid.
    """

    @cached_property
    def encoded(self) -> EncodedClips:
        """All clips, each encoded when it is first drawn."""
        weight = float(self.settings.extra.get("mouth_weight", 1.0))
        return EncodedClips(self.config, self.clips, self.settings.seed, weight)

    @cached_property
    def reading(self) -> Tensor:
        """What that which is drawn says of lips."""
        return self.encoded.reading(self.networks) * (self.config.generator.difference_spread or 1.0)

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = CutSettings(
            batch_size=config.batch_size,
            seed=config.seed,
            num_latents=self.config.generator.window_latents,
            block_latents=self.config.generator.block_latents,
            max_references=int(config.extra["max_references"]),
            from_start=FROM_START,
            num_crops=int(config.extra["num_crops"]),
        )
        return Cuts(self.clips, settings, rank)

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        generator, starts = self.networks.generator, not bool(batch["first"].any())
        latents, references, features, mouths = self.encoded.batch(self.networks, batch)
        latents = generator.relative(latents, references)
        noise, count = torch.randn_like(latents), len(latents)
        mean = float(self.settings.extra.get("time_mean", 0.0))
        times = logit_normal_times(count, mean=mean).to(latents.device)
        context_times = losses.context_times(count, latents.device)
        predicted = generator(
            losses.dropped(references, generator.null_reference.view(-1, 1, 1), losses.DROPOUT),
            noised(latents, torch.randn_like(latents), context_times),
            noised(latents, noise, times),
            losses.dropped(
                generator.embed_audio(features, starts=starts), generator.null_audio, losses.DROPOUT
            ),
            context_times,
            times,
            starts=starts,
        )
        target = velocity(latents, noise)
        terms = {"flow": losses.flow_matching(predicted, target, mouths)}
        if share := float(self.settings.extra.get("lips_weight", 0.0)):
            terms["lips"] = share * losses.lips_read(predicted, target, self.reading)
        return terms


def _expert(network: nn.Module, config: Config) -> SyncExpert:
    """The two towers of a run as one network, which holds the run's own modules."""
    trained = _trained(network)
    assert trained.face_encoder is not None
    with torch.device("meta"):
        expert = SyncExpert(config.audio_widths)
    expert.audio_encoder, expert.face_encoder = (
        trained.networks.audio,
        cast("nn.Sequential", trained.face_encoder),
    )
    return expert


def _trained(network: nn.Module) -> TrainedNetworks:
    assert isinstance(network, TrainedNetworks)
    return network

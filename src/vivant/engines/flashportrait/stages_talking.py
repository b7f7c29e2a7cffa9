"""Flow matching on talking clips, which are kept where the networks are: see kept.py and streams.py."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import Dataset

from vivant.diffusion.flow_match import noised, velocity
from vivant.engines.flashportrait import losses
from vivant.engines.flashportrait.caches import VaeCache
from vivant.engines.flashportrait.config import TIME_FACTOR, Config
from vivant.engines.flashportrait.config_networks import BlockVaeConfig
from vivant.engines.flashportrait.data import Filter
from vivant.engines.flashportrait.kept import Kept, keep
from vivant.engines.flashportrait.known import MASK_CHANNELS
from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES
from vivant.engines.flashportrait.stages import FlowStage
from vivant.engines.flashportrait.streams import (
    STREAMS_PER_CLIP,
    Plan,
    Streams,
    Window,
    Windows,
    encode_streams,
    plan_streams,
)
from vivant.studio.dataset import Session
from vivant.studio.talking import read_clip
from vivant.training.config import TrainConfig
from vivant.training.data.fit import fitted

if TYPE_CHECKING:
    from vivant.engines.flashportrait.networks.stream import Conditions

STREAMS_SEED = 0
NUM_PICTURES = 8
SOLVED_CLIPS = 48
"""Clips whose blocks the components of a block VAE are the principal ones of."""


class TalkingStage(FlowStage):
    """What the stages that learn from talking clips share: the clips."""

    talks = True

    _kept: Kept | None = None

    @cached_property
    def paths(self) -> Sequence[Path]:
        """The clips' files, of which this process has its share."""
        return cast("Sequence[Path]", self.data)

    def started(self) -> FlowStage:
        """The same with a block VAE's components, from SOLVED_CLIPS clips, where there are none yet."""
        if self.paths and isinstance(self.config.vae, BlockVaeConfig) and not self._networks.blocks.solved:
            self._solve()
        return self

    def _solve(self) -> None:
        from vivant.engines.flashportrait.networks.block_vae import Moments, solve

        moments = Moments(self._networks.blocks)
        for path in self.paths[:: max(1, len(self.paths) // SOLVED_CLIPS)]:
            frames = fitted(torch.from_numpy(read_clip(path).frames), self.config.image_size)
            frames = frames[: len(frames) // TIME_FACTOR * TIME_FACTOR]
            moments.add(frames.movedim(-1, 0)[None].float() / 127.5 - 1)
        solve(moments)

    def kept(self, device: torch.device) -> Kept:
        """The clips, read when they are first asked for."""
        if self._kept is None:
            self._kept = keep(self.paths, self.config.image_size, device)
        return self._kept


class TalkingFlowStage(TalkingStage):
    """Flow matching on windows of encoded streams."""

    def __init__(
        self,
        config: Config,
        data: Sequence[Session] | Sequence[Path],
        backgrounds: np.ndarray,
        networks: nn.Module,
        filters: tuple[Filter, ...] = (),
    ):
        super().__init__(config, data, backgrounds, networks, filters)
        self._plan: Plan | None = None
        self._streams: Streams | None = None
        start_expression(networks)

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        if self._plan is None:
            # Each process its own clips: encoding them takes minutes of a CPU.
            self.paths = self.paths[rank::world_size]
            per_clip = int(config.extra.get("streams_per_clip", STREAMS_PER_CLIP))
            self._plan = plan_streams(self.paths, self.config.window_latents, STREAMS_SEED, per_clip)
        return Windows(self._plan, self.config.window_latents, config.batch_size, config.seed, rank)

    @property
    def plan(self) -> Plan:
        """Which streams this process learns from, once it has its dataset."""
        assert self._plan is not None
        return self._plan

    def streams(self, device: torch.device) -> Streams:
        """All streams, encoded when they are first asked for."""
        if self._streams is None:
            self._streams = encode_streams(self._networks, self.config, self.kept(device), self.plan)
        return self._streams

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        window = self.streams(batch["stream"].device).window(batch)
        latents = window.latents
        noise = torch.randn_like(latents)
        times = losses.training_times(len(latents), self.config.step_shift, device=latents.device)
        x = torch.cat([noised(latents, noise, times), window.conditioning], 1)
        told = torch.rand(len(latents), device=latents.device) >= losses.EXPRESSION_DROPOUT
        conditions = self._conditions(window, told.float())
        with plain_attention(x.device):
            predicted = self._networks.transformer(x, times * NUM_TRAINING_TIMES, conditions)
        target, weights = velocity(latents, noise), losses.shared_weights(window.face, window.lips)
        if self.config.transformer.answers == "clean":
            share = losses.clean_share(times).view(-1, 1, 1, 1, 1)
            predicted, target = share * predicted, share * target
        return losses.flow_matching(predicted, target, weights)

    def _conditions(self, window: Window, scale: Tensor) -> Conditions:
        """What is told of the windows; scale (B,): 0 where nothing of the driver, as the engine asks without it."""
        from vivant.engines.flashportrait.networks.stream import Conditions

        networks, count = self._networks, len(window.features)
        return Conditions(
            # The first scene: talking.
            text=networks.prompts[:1].expand(count, -1, -1),
            image=networks.image_encoder(window.references),
            expression=networks.portrait_encoder.told(window.features),
            expression_scale=scale,
        )

    def _latents(self, drawn: Tensor, window: Window) -> Tensor:
        """What was drawn (B, Z, F, h, w), as latents."""
        if self.config.drawing == "latents":
            return drawn
        return drawn + window.conditioning[:, MASK_CHANNELS:] * self._networks.blocks.width.view(-1, 1, 1, 1)

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Some windows' last frames: as they are, and as one step from half noise draws them."""
        trained, self.network = self.network, network
        try:
            networks = self._networks
            chosen = {name: item[:NUM_PICTURES] for name, item in batch.items()}
            window = self.streams(chosen["stream"].device).window(chosen)
            half = torch.full((len(window.latents),), 0.5, device=window.latents.device)
            x = noised(window.latents, torch.randn_like(window.latents), half)
            conditions = self._conditions(window, torch.ones_like(half))
            inputs = torch.cat([x, window.conditioning], 1)
            said = networks.transformer(inputs, half * NUM_TRAINING_TIMES, conditions)
            # Of some windows the stream's past is missing here, so that their first frames are not what they will be.
            drawn = networks.vae.decode_piece(self._latents(x - 0.5 * said, window), VaeCache())
            drawn = drawn[:, :, -1] / 2 + 0.5
        finally:
            self.network = trained
        return [torch.cat(pair, 2) for pair in zip(window.last, drawn, strict=True)]


def plain_attention(device: torch.device) -> AbstractContextManager[None]:
    """Attention as two products on a CPU, where torch's fused kernel and its gradients are half of a step's time."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


@torch.no_grad()
def start_expression(networks: nn.Module) -> None:
    """Give expression matrices that are all zero, so that training starts from Wan, numbers where there is no Wan.

    Their output is brought to the spread of the others: from zero the first steps' gradients would be without bound.
    """
    for name, weight in networks.named_parameters():
        if (
            name.endswith(("emo_k_proj.weight", "emo_v_proj.weight"))
            and not weight.is_meta
            and not weight.any()
        ):
            nn.init.xavier_uniform_(weight, generator=torch.Generator().manual_seed(sum(weight.shape)))

"""What mends pictures, taught on what the transformer draws. Letters: N windows, B latents, Z channels, F latents."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant.diffusion.flow_match import euler_step
from vivant.engines.flashportrait.config import TIME_FACTOR
from vivant.engines.flashportrait.kept import FACE, LIP
from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES, step_times
from vivant.engines.flashportrait.stages_talking import TalkingFlowStage
from vivant.engines.flashportrait.streams import Windows
from vivant.training.config import TrainConfig

FACE_WEIGHT, LIPS_WEIGHT = 2.0, 6.0
"""How much more an error counts in the face, and in lips, than beside it."""
EDGE_WEIGHT = 1.0
"""Of errors of differences between neighbouring pixels: a blurred mouth errs little in its pixels."""
DRAWN_WINDOWS = 320
"""Windows that a process draws before it learns."""
DRAWN_TOGETHER = 4
DRAWN_STEPS = 10
DRAWN_SEED = 101
TRUE_SHARE = 0.25
"""Of the latents: true ones, so that pictures that are encoded still come back."""


@dataclass(frozen=True)
class Drawn:
    """Windows as the transformer draws them, and the true ones."""

    latents: Tensor
    """(N, Z, F, h, w)."""
    true: Tensor
    """The same shape."""
    rows: Tensor
    """(N, F, 4): numbers of the true frames among the kept ones; of a latent 0, which is one frame, four times that."""
    mirrored: Tensor
    """(N,) bool."""


class Latents(Dataset[dict[str, Tensor]]):
    """`window` and `latent` (B,), and whether it is a `true` one; item k is a pure function of (seed, rank, k)."""

    def __init__(self, num_windows: int, num_latents: int, batch_size: int, seed: int, rank: int):
        self.sizes, self.batch_size, self.key = (num_windows, num_latents), batch_size, (seed, rank)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([*self.key, index, 83])
        window, latent = (rng.integers(size, size=self.batch_size) for size in self.sizes)
        items = {"window": window, "latent": latent, "true": rng.random(self.batch_size) < TRUE_SHARE}
        return {name: torch.from_numpy(item) for name, item in items.items()}


class DecoderStage(TalkingFlowStage):
    """The network that mends learns the clips' pictures from drawn latents; everything else rests."""

    _drawn: Drawn | None = None

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        super().dataset(config, rank, world_size)
        return Latents(DRAWN_WINDOWS, self.config.window_latents, config.batch_size, config.seed, rank)

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        frames, again, weights = self._pairs(batch)
        error = again - frames
        edges = [error.diff(dim=dim).abs().mean() for dim in (3, 4)]
        return {
            "pixels": (weights * (error.abs() + error.square())).mean(),
            "edges": EDGE_WEIGHT * (edges[0] + edges[1]),
        }

    def _pairs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """True frames (B, 3, 4, n, n) in [-1, 1], the same from latents, and what each pixel counts."""
        drawn, vae = self.drawn(batch["window"].device), self._networks.blocks
        chosen = batch["window"], slice(None), batch["latent"]
        true = batch["true"].view(-1, 1, 1, 1)
        latents = torch.where(true, drawn.true[chosen], drawn.latents[chosen])[:, :, None]
        kept = self.kept(latents.device)
        where = drawn.rows[batch["window"], batch["latent"]], drawn.mirrored[batch["window"]], None, kept.side
        frames = kept.cut(kept.frames, *where).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        parts = kept.cut(kept.parts, *where)[:, None]
        weights = 1 + FACE_WEIGHT * (parts & FACE > 0) + LIPS_WEIGHT * (parts & LIP > 0)
        return frames, vae.mended(vae.linear(latents)), weights / weights.mean()

    def drawn(self, device: torch.device) -> Drawn:
        """The windows, drawn when they are first asked for."""
        if self._drawn is None:
            with torch.random.fork_rng([]), torch.no_grad():
                torch.manual_seed(DRAWN_SEED)
                self._drawn = self._draw(device)
        return self._drawn

    def _draw(self, device: torch.device) -> Drawn:
        config, streams = self.config, self.streams(device)
        batches = Windows(self.plan, config.window_latents, DRAWN_TOGETHER, DRAWN_SEED)
        latents, true, rows, mirrored = [], [], [], []
        for index in range(DRAWN_WINDOWS // DRAWN_TOGETHER):
            batch = {name: item.to(device) for name, item in batches[index].items()}
            window = streams.window(batch)
            conditions = self._conditions(window, torch.ones(DRAWN_TOGETHER, device=device))
            x, times = torch.randn_like(window.latents), step_times(DRAWN_STEPS, config.step_shift)
            for time, following in pairwise(times):
                asked = torch.cat([x, window.conditioning], 1)
                moment = x.new_full((len(x),), time * NUM_TRAINING_TIMES)
                x = euler_step(x, self._networks.transformer(asked, moment, conditions), time, following)
            latents.append(self._latents(x, window))
            true.append(self._latents(window.latents, window))
            along = TIME_FACTOR * (
                batch["latent"][:, None] + torch.arange(config.window_latents, device=device)
            )
            # Latent p is frames 4 p - 3 to 4 p of its stream.
            frames = along[:, :, None] + torch.arange(1 - TIME_FACTOR, 1, device=device)
            frames = streams.first[batch["stream"]][:, None, None] + frames.clamp(min=0)
            clips = streams.clip[batch["stream"]]
            last = (streams.kept.lengths[clips] - 1)[:, None, None]
            rows.append(streams.kept.starts[clips][:, None, None] + frames.minimum(last))
            mirrored.append(streams.mirrored[batch["stream"]])
        return Drawn(torch.cat(latents), torch.cat(true), torch.cat(rows), torch.cat(mirrored))

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
        """Some frames: as they are, and as they come out of drawn latents."""
        trained, self.network = self.network, network
        try:
            frames, again, _ = self._pairs({name: item[:8] for name, item in batch.items()})
        finally:
            self.network = trained
        return [torch.cat(pair, 2) / 2 + 0.5 for pair in zip(frames[:, :, -1], again[:, :, -1], strict=True)]

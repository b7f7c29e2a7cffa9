"""Talking clips as flow matching learns from them: as streams, encoded once, and cut into windows of latents.

A stream begins with the reference, as in the engine; its windows are anywhere in it, each told the stream's reference.
VAE and face features rest, so what they make of a stream is made once and kept where the networks are.
Letters: B windows, F latents of a window, T = 4 F - 3 frames, Z latent channels, h w cells, C face features, N frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.flashportrait.config import SPACE_FACTOR, TIME_FACTOR, Config
from vivant.engines.flashportrait.kept import FACE, LIP, Kept, aligned_faces, wobbled
from vivant.engines.flashportrait.known import masked
from vivant.ops.bending import bent, placement
from vivant.studio.talking import count_frames

if TYPE_CHECKING:
    from vivant.engines.flashportrait.networks import Networks

STREAMS_PER_CLIP = 2
"""Where a recipe does not say. The first begins with its clip, the others somewhere, every other one in a mirror."""
FROM_START = 0.35
"""Share of the windows that begin with their stream: the one window that every user sees."""
ENCODED_TOGETHER = 4


@dataclass(frozen=True)
class Plan:
    """Which streams there are; S of them, alike whenever a run goes on."""

    clip: np.ndarray
    """(S,)."""
    first: np.ndarray
    """(S,): the frame that is the reference."""
    num_latents: np.ndarray
    """(S,), no fewer than a window has."""
    mirrored: np.ndarray
    """(S,) bool."""
    wobble: np.ndarray
    """(S, 4) standard normal: how the alignment is off."""

    @property
    def starts(self) -> np.ndarray:
        """(S,): each one's first latent among those of all."""
        return np.cumsum(self.num_latents) - self.num_latents


def plan_streams(
    paths: Sequence[Path], num_latents: int, seed: int, per_clip: int = STREAMS_PER_CLIP
) -> Plan:
    """Streams that have a window of so many latents; where a clip is shorter it stands still at its end."""
    rng = np.random.default_rng([seed, 73])
    lengths = np.repeat([count_frames(path) for path in paths], per_clip)
    needed = TIME_FACTOR * (num_latents - 1) + 1
    first = rng.integers(np.maximum(lengths - needed, 0) + 1)
    first[::per_clip] = 0
    return Plan(
        clip=np.repeat(np.arange(len(paths)), per_clip),
        first=first,
        num_latents=np.maximum(1 + (lengths - first - 1) // TIME_FACTOR, num_latents),
        mirrored=np.arange(len(lengths)) % 2 == 1,
        wobble=rng.standard_normal((len(lengths), 4), np.float32),
    )


class Windows(Dataset[dict[str, Tensor]]):
    """`stream` and first `latent` (B,) of windows; item k is a pure function of (seed, rank, k)."""

    def __init__(self, plan: Plan, num_latents: int, batch_size: int, seed: int, rank: int = 0):
        self.plan, self.num_latents, self.batch_size, self.key = plan, num_latents, batch_size, (seed, rank)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([*self.key, index, 79])
        streams = rng.integers(len(self.plan.clip), size=self.batch_size)
        latents = rng.integers(self.plan.num_latents[streams] - self.num_latents + 1)
        latents[rng.random(self.batch_size) < FROM_START] = 0
        return {"stream": torch.from_numpy(streams), "latent": torch.from_numpy(latents)}


@dataclass(frozen=True, kw_only=True)
class Window:
    """B windows."""

    latents: Tensor
    """(B, Z, F, h, w), or their differences to the reference's: what Config.drawing says."""
    conditioning: Tensor
    """(B, 4 + Z, F, h, w): mask, and what is known; as FlashPortraitPortrait has it."""
    features: Tensor
    """(B, T, C)."""
    references: Tensor
    """(B, 3, n, n) in [0, 1]."""
    face: Tensor
    """(B, 1, F, h, w) in [0, 1]: how much of a cell is face."""
    lips: Tensor
    last: Tensor
    """(B, 3, n, n) in [0, 1]: the last frame."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """All streams, encoded."""

    kept: Kept
    num_latents: int
    """Of a window."""
    latents: Tensor
    """(all latents, Z, h, w)."""
    parts: Tensor
    """(all latents, 2, h, w): how much of a cell is face, and lips."""
    features: Tensor
    """(4 x all latents, C): stream s has its frames from 4 starts[s] on, and three more that say nothing."""
    known: Tensor
    """(S, Z, F, h, w): the reference and grey; or as `latents`, of the bent reference."""
    starts: Tensor
    """(S,)."""
    clip: Tensor
    first: Tensor
    mirrored: Tensor

    def window(self, batch: dict[str, Tensor]) -> Window:
        """What an item of `Windows` names."""
        streams, firsts = batch["stream"], batch["latent"]
        along = torch.arange(self.num_latents, device=firsts.device)
        rows = (self.starts[streams] + firsts)[:, None] + along
        frames = TIME_FACTOR * (self.starts[streams] + firsts)[:, None] + torch.arange(
            TIME_FACTOR * (self.num_latents - 1) + 1, device=firsts.device
        )
        known = self.known[streams] if self.known.dim() == 5 else self.known[rows].movedim(1, 2)
        face, lips = self.parts[rows].movedim(1, 2).split(1, 1)
        end = self.first[streams] + TIME_FACTOR * (firsts + self.num_latents - 1)
        return Window(
            latents=self.latents[rows].movedim(1, 2),
            conditioning=masked(known),
            features=self.features[frames],
            references=self._pictures(streams, self.first[streams]),
            face=face,
            lips=lips,
            last=self._pictures(streams, end),
        )

    def _pictures(self, streams: Tensor, frames: Tensor) -> Tensor:
        """(B, 3, n, n) in [0, 1] of frames (B,) of the streams' clips."""
        kept = self.kept
        rows = kept.rows(self.clip[streams], frames, 1)
        pictures = kept.cut(kept.frames, rows, self.mirrored[streams], None, kept.side)[:, 0]
        return pictures.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def encode_streams(networks: Networks, config: Config, kept: Kept, plan: Plan) -> Streams:
    """All streams, a few of about the same length at a time."""
    device, num_latents = kept.frames.device, config.window_latents
    total, cells = int(plan.num_latents.sum()), config.latent_size
    of_latents = total, config.vae.latent_channels, cells, cells
    of_streams = len(plan.clip), config.vae.latent_channels, num_latents, cells, cells
    streams = Streams(
        kept=kept,
        num_latents=num_latents,
        latents=torch.empty(of_latents, device=device),
        parts=torch.empty(total, 2, cells, cells, device=device),
        features=torch.zeros(TIME_FACTOR * total, config.num_features, device=device),
        known=torch.empty(of_latents if config.drawing == "differences" else of_streams, device=device),
        starts=torch.from_numpy(plan.starts).to(device),
        clip=torch.from_numpy(plan.clip).to(device),
        first=torch.from_numpy(plan.first).to(device),
        mirrored=torch.from_numpy(plan.mirrored).to(device),
    )
    wobble = torch.from_numpy(plan.wobble).to(device)
    networks.vae.eval()
    networks.face_features.eval()
    order = np.argsort(plan.num_latents, kind="stable")
    for begin in range(0, len(order), ENCODED_TOGETHER):
        some = order[begin : begin + ENCODED_TOGETHER]
        _encode(networks, config, streams, plan, some, wobble)
    return streams


def _encode(
    networks: Networks,
    config: Config,
    streams: Streams,
    plan: Plan,
    some: np.ndarray,
    wobble: Tensor,
) -> None:
    """Fill in the streams `some`."""
    starts, lengths = plan.starts[some].tolist(), plan.num_latents[some].tolist()
    kept, device = streams.kept, wobble.device
    chosen = torch.from_numpy(some).to(device)
    mirrored = streams.mirrored[chosen]
    longest = max(lengths)
    num_frames = TIME_FACTOR * (longest - 1) + 1
    rows = kept.rows(streams.clip[chosen], streams.first[chosen], num_frames)
    pictures = kept.cut(kept.frames, rows, mirrored, None, kept.side)
    video = pictures.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = networks.vae.encode_clips(video)
    features = _features(networks, config, kept, pictures, rows, mirrored, wobble[chosen])
    known = torch.zeros_like(latents)
    if config.drawing == "differences":
        own, placements = _places(kept, rows, mirrored)
        of_bent = networks.vae.encode_clips(bent(video[:, :, 0], own, placements))
        latents, known = latents - of_bent, networks.blocks.told(of_bent)
        features = torch.cat([features, placements.flatten(2)], 2)
    else:
        grey = torch.zeros_like(video[:, :, :1]).repeat(1, 1, TIME_FACTOR * (streams.num_latents - 1), 1, 1)
        streams.known[chosen] = networks.vae.encode_clips(torch.cat([video[:, :, :1], grey], 2))
    known = known.movedim(2, 1)
    latents = latents.movedim(2, 1)
    parts = kept.cut(kept.parts, rows, mirrored, None, kept.side)
    shares = torch.stack([_share(parts & bit) for bit in (FACE, LIP)], 2)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        frames = slice(TIME_FACTOR * start, TIME_FACTOR * (start + length) - 3)
        streams.latents[start : start + length] = latents[row, :length]
        if config.drawing == "differences":
            streams.known[start : start + length] = known[row, :length]
        streams.parts[start : start + length] = shares[row, :length]
        streams.features[frames] = features[row, : frames.stop - frames.start]


def _features(
    networks: Networks,
    config: Config,
    kept: Kept,
    pictures: Tensor,
    rows: Tensor,
    mirrored: Tensor,
    wobble: Tensor,
) -> Tensor:
    """(B, T, C) of pictures (B, T, n, n, 3), aligned as the engine would align them."""
    count, num_frames = rows.shape
    seen = rows if config.alignment == "each" else rows[:, :1].expand(-1, num_frames)
    sides = mirrored.long()[:, None].expand(-1, num_frames)
    matrices = wobbled(kept.alignments[sides, seen].flatten(0, 1), wobble.repeat_interleave(num_frames, 0))
    faces = aligned_faces(pictures.flatten(0, 1), matrices, config.face_features.image_size)
    return networks.face_features(faces).unflatten(0, (count, num_frames)).float()


def _places(kept: Kept, rows: Tensor, mirrored: Tensor) -> tuple[Tensor, Tensor]:
    """Alignments (B, 2, 3) of the first frames, which are the references, and placements (B, T, 2, 3)."""
    sides = mirrored.long()[:, None].expand(-1, rows.shape[1])
    own = kept.alignments[sides, rows]
    return own[:, 0], placement(own[:, :1], own)


def _share(inside: Tensor) -> Tensor:
    """Masks (B, T, n, n) -> (B, L, h, w): how much of each latent cell is inside."""
    size = (SPACE_FACTOR, SPACE_FACTOR)
    cells = F.avg_pool2d((inside > 0).float(), size)
    rest = cells[:, 1:].unflatten(1, (-1, TIME_FACTOR)).mean(2) if cells.shape[1] > 1 else cells[:, 1:]
    return torch.cat([cells[:, :1], rest], 1)

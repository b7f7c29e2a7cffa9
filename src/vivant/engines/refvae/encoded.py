"""Clips as the generator learns from them: encoded once, whole, as a stream would be, and cut into windows of latents.

VAE and audio tower rest while the generator learns, so what they make of a clip is made once and kept where they are.
Legend: B clips, T frames, L latents in time, M references, Z latent channels, h w cells, C audio features.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.refvae.config import Config
from vivant.engines.refvae.config_vae import TIME_FACTOR
from vivant.engines.refvae.data import Cut, as_references, as_video, cropped, heard
from vivant.engines.refvae.layers import TemporalCache
from vivant.engines.refvae.losses import part_weights
from vivant.engines.refvae.networks import Networks
from vivant.errors import InputError
from vivant.studio.talking import TalkingClip, count_frames, read_clip

NUM_STILLS = 8
"""Frames of a clip that are encoded as pictures, to be references."""
PIECE_LATENTS = 4
READ_CLIPS = 100
RIDGE = 300.0
"""Of 30 to 3000, the best on held-out people: 0.74 to 0.85 in correlation for the opening, frame by frame."""
SMALLEST_SPREAD = 1e-3
MAX_KEPT = 8192
"""Clips whose latents stay in memory: at 512 px 2 MB each for 6 s, at 128 px half an MB."""
NUM_READERS = 8
"""Threads that read and hear clips while others are encoded."""


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """How clips are cut."""

    batch_size: int
    seed: int
    num_latents: int
    """Of the longest window; shorter clips give shorter windows."""
    block_latents: int
    """Windows are whole blocks."""
    max_references: int
    """Each micro-batch has 1 to this many reference pictures, anywhere in the same clip."""
    from_start: float
    """Share of the micro-batches that begin with the clip, whose first frame's latent then counts."""
    num_crops: int
    """Ways in which each clip is cropped; every second one is a mirror image."""


class Cuts(Dataset[dict[str, Tensor]]):
    """Which parts of which clips: `clip`, `crop` and `first` latent (B,), `references` (B, M) and `length` L.

    Item k is a whole micro-batch and a pure function of (seed, rank, k).
    """

    def __init__(self, paths: Sequence[Path], settings: CutSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, self.rank, index, 53])
        clips = rng.integers(len(self.paths), size=settings.batch_size)
        # Alike on all ranks: a start uses parameters of its own, and FSDP waits for those that any rank uses.
        starts = bool(np.random.default_rng([settings.seed, index, 54]).random() < settings.from_start)
        # In a clip the first latent is one frame's. Windows that do not start a stream leave it out.
        totals = [(count_frames(self.paths[clip]) - 1) // TIME_FACTOR + 1 for clip in clips]
        shortest = int(np.argmin(totals))
        room = totals[shortest] - (not starts)
        length = min(settings.num_latents, room) // settings.block_latents * settings.block_latents
        if length < 1:
            needed = 1 + TIME_FACTOR * settings.block_latents
            path = self.paths[clips[shortest]]
            raise InputError(f"{path} is too short: {needed} frames are needed; render longer clips.")
        firsts = [0 if starts else int(rng.integers(1, total - length + 1)) for total in totals]
        references = (settings.batch_size, int(rng.integers(1, settings.max_references + 1)))
        return {
            "clip": torch.from_numpy(clips),
            "crop": torch.from_numpy(rng.integers(settings.num_crops, size=settings.batch_size)),
            "first": torch.tensor(firsts),
            "length": torch.tensor(length),
            "references": torch.from_numpy(rng.integers(NUM_STILLS, size=references)),
        }


@dataclass(frozen=True)
class EncodedClip:
    """What the generator's targets, references and sounds are made of."""

    mean: Tensor
    """(L, Z, h, w) of the posterior, standardised as the rest."""
    spread: Tensor
    """(L, Z, h, w), its standard deviation."""
    stills: Tensor
    """(NUM_STILLS, Z, h, w): some frames, each as a picture on its own."""
    features: Tensor
    """(T, C): what each frame hears."""
    mouth: Tensor
    """(1, 1, h, w), with mean 1: how much errors in each cell count."""
    lips: Tensor
    """(L, 8): how far lips are apart and how wide, in each of a latent's four frames; see `lips_of`."""


class EncodedBatch(NamedTuple):
    """Windows to learn from."""

    latents: Tensor  # (B, L, Z, h, w), drawn from their posterior
    references: Tensor  # (B, M, Z, h, w)
    features: Tensor  # (B, T, C)
    mouths: Tensor  # (B, 1, 1, h, w)


class EncodedClips:
    """All clips, each encoded when it is first asked for."""

    def __init__(self, config: Config, paths: Sequence[Path], seed: int, mouth_weight: float = 1.0):
        self.config, self.paths, self.seed, self.mouth_weight = config, paths, seed, mouth_weight
        self._kept: dict[tuple[int, int], EncodedClip] = {}

    def reading(self, networks: Networks) -> Tensor:
        """What latents of these clips say of lips; see `read_lips`."""
        clips = self.clips(networks, [(clip, 0) for clip in range(min(READ_CLIPS, len(self.paths)))])
        return read_lips(clips).to(networks.latent_mean.device)

    def batch(self, networks: Networks, cuts: dict[str, Tensor]) -> EncodedBatch:
        """What was cut out."""
        rows = zip(cuts["clip"].tolist(), cuts["crop"].tolist(), strict=True)
        clips = self.clips(networks, list(rows))
        length, firsts = int(cuts["length"]), cuts["first"].tolist()
        places = [slice(first, first + length) for first in firsts]
        mean = torch.stack([clip.mean[place] for clip, place in zip(clips, places, strict=True)])
        spread = torch.stack([clip.spread[place] for clip, place in zip(clips, places, strict=True)])
        references = torch.stack(
            [clip.stills[picks] for clip, picks in zip(clips, cuts["references"], strict=True)]
        )
        features = torch.stack(
            [clip.features[_frames(place)] for clip, place in zip(clips, places, strict=True)]
        )
        latents = mean + spread * torch.randn_like(mean)
        return EncodedBatch(latents, references, features, torch.stack([clip.mouth for clip in clips]))

    def clips(self, networks: Networks, wanted: Sequence[tuple[int, int]]) -> list[EncodedClip]:
        """Clips, each in one of its crops; those that are not kept are encoded."""
        missing = sorted(set(wanted) - self._kept.keys())
        with ThreadPoolExecutor(NUM_READERS) as pool:
            read = pool.map(self._read, sorted({clip for clip, _ in missing})) if missing else ()
            for clip, talking, windows in read:
                features = self._hear(networks, windows)
                for crop in (crop for other, crop in missing if other == clip):
                    self._kept[clip, crop] = self._encode(networks, talking, features, (clip, crop))
        found = [self._kept[key] for key in wanted]
        for key in list(self._kept)[: max(0, len(self._kept) - MAX_KEPT)]:
            del self._kept[key]
        return found

    def _read(self, clip: int) -> tuple[int, TalkingClip, Tensor]:
        talking = read_clip(self.paths[clip])
        return clip, talking, heard(talking, self.config.audio_lead_frames)

    @torch.no_grad()
    def _hear(self, networks: Networks, windows: Tensor) -> Tensor:
        networks.audio.eval()
        return networks.audio(windows.to(networks.latent_mean.device)).flatten(1).float()

    @torch.no_grad()
    def _encode(
        self, networks: Networks, talking: TalkingClip, features: Tensor, key: tuple[int, int]
    ) -> EncodedClip:
        device, vae = networks.latent_mean.device, networks.vae
        rng = np.random.default_rng([self.seed, *key, 61])
        frames, points = cropped(talking, len(talking.frames) // 2, Cut.of(self.config), rng, device)
        if key[1] % 2:
            frames, points = frames.flip(2), points * np.array([-1, 1], np.float32)
        cache, means, spreads = TemporalCache(), [], []
        stop = (len(frames) - 1) // TIME_FACTOR * TIME_FACTOR + 1
        bounds = [0, *range(1 + TIME_FACTOR * PIECE_LATENTS, stop, TIME_FACTOR * PIECE_LATENTS), stop]
        for first, last in pairwise(bounds):
            mean, log_variance = vae.encode(as_video(frames[None, first:last]), cache)
            means.append(networks.standardised(mean.float())[0])
            spreads.append(networks.scaled(torch.exp(0.5 * log_variance.float()))[0])
        picks = rng.integers(len(frames), size=NUM_STILLS)
        stills, _ = vae.encode(as_references(frames[None, picks])[0][:, :, None])
        return EncodedClip(
            mean=torch.cat(means),
            spread=torch.cat(spreads),
            stills=networks.standardised(stills.float())[:, 0],
            features=features,
            mouth=self._mouth(torch.from_numpy(points)).to(device),
            lips=lips_of(points),
        )

    def _mouth(self, points: Tensor) -> Tensor:
        """Landmarks (T, 68, 2), -1 to 1 -> (1, 1, h, w)."""
        pixels = part_weights(points[None, ::TIME_FACTOR], self.config.image_size, self.mouth_weight)
        return F.adaptive_avg_pool2d(pixels.mean(2), self.config.cells)


@torch.autocast("cpu", enabled=False)
def read_lips(clips: Sequence[EncodedClip]) -> Tensor:
    """(Z h w, 8): latents to lips of spread 1, by ridge regression over clips, each less its own mean."""
    latents = torch.cat([(clip.mean - clip.mean.mean(0)).flatten(1) for clip in clips]).cpu()
    lips = torch.cat([clip.lips for clip in clips])
    lips = lips / lips.std(0).clamp(min=SMALLEST_SPREAD)
    square = latents.T @ latents + RIDGE * torch.eye(latents.shape[1])
    return torch.linalg.solve(square, latents.T @ lips)


def lips_of(points: np.ndarray) -> Tensor:
    """Landmarks (T, 68, 2) of a clip -> (L, 8): opening and width in units between the eyes, four frames a latent.

    The first latent has one frame, four times. Less the clip's mean, because people differ.
    """
    eyes = points[:, 36:42].mean(1) - points[:, 42:48].mean(1)
    apart, wide = points[:, 62] - points[:, 66], points[:, 60] - points[:, 64]
    unit = np.median(np.linalg.norm(eyes, axis=1))
    lips = np.stack([np.linalg.norm(apart, axis=1), np.linalg.norm(wide, axis=1)], 1) / unit
    lips = torch.from_numpy(np.concatenate([np.repeat(lips[:1], TIME_FACTOR - 1, 0), lips])).float()
    lips = lips[: len(lips) // TIME_FACTOR * TIME_FACTOR]
    return (lips - lips.mean(0)).unflatten(0, (-1, TIME_FACTOR)).flatten(1)


def _frames(latents: slice) -> slice:
    """Video frames of latents: the first of a clip has one, each later one four."""
    first, last = (max(0, TIME_FACTOR * (edge - 1) + 1) for edge in (latents.start, latents.stop))
    return slice(first, last)

"""The decoder behind a generator that has learned: it sees the latents that this draws, and shows what they mean.

What a generator draws says where lips are nearly as well as true latents do, but lies a little beside all of them, and
a decoder that has seen none but true ones shows smudges there. So the generator draws each clip whole, as a stream
from one of its frames and its sound, and D1, D_ref and D2 learn the clip's own pictures from that. Lids are not in the
sound, so there only true latents count. Not in the paper.
Legend: B clips, L latents in time, Z latent channels, h w cells, T frames, S picture side.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vivant.engines.refvae import losses
from vivant.engines.refvae.config import Options
from vivant.engines.refvae.config_vae import TIME_FACTOR
from vivant.engines.refvae.data import NEAR, Box, Cut, as_references, as_video
from vivant.engines.refvae.engine import RefVae
from vivant.engines.refvae.stages import RefVaeStage
from vivant.errors import InputError
from vivant.runtime import precision
from vivant.studio.talking import count_frames, read_clip, read_frames, read_landmarks
from vivant.training.config import TrainConfig

LEAD, SHOWN = 2, 4
"""Latents before a passage, which the causal decoder needs to know what came before; and of a passage."""
KINDS = ("near", "whole", "true")
"""The half around the mouth as drawn, the whole picture as drawn but for the eyes, the whole as it was encoded."""


@dataclass(frozen=True, kw_only=True)
class PassageSettings:
    """How passages are chosen."""

    batch_size: int
    seed: int
    num_crops: int
    """Ways in which each clip is cropped and drawn; every second one is a mirror image."""
    shares: tuple[float, float, float]
    """Of micro-batches of each of `KINDS`."""


class Passages(Dataset[dict[str, Tensor]]):
    """Which parts of which clips: `clip`, `crop` and `first` latent (B,), and `kind`, an index of `KINDS`.

    Item k is a whole micro-batch and a pure function of (seed, rank, k).
    """

    def __init__(self, paths: Sequence[Path], settings: PassageSettings, rank: int = 0):
        self.paths, self.settings, self.rank = paths, settings, rank

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        # Alike on all ranks, which wait for each other.
        kind = int(np.random.default_rng([settings.seed, index, 54]).choice(len(KINDS), p=settings.shares))
        rng = np.random.default_rng([settings.seed, self.rank, index, 67])
        clips = rng.integers(len(self.paths), size=settings.batch_size)
        rooms = [(count_frames(self.paths[clip]) - 1) // TIME_FACTOR + 1 - LEAD - SHOWN for clip in clips]
        if min(rooms) < 0:
            path, needed = self.paths[clips[int(np.argmin(rooms))]], 1 + TIME_FACTOR * (LEAD + SHOWN - 1)
            raise InputError(f"{path} is too short: {needed} frames are needed; render longer clips.")
        return {
            "clip": torch.from_numpy(clips),
            "crop": torch.from_numpy(rng.integers(settings.num_crops, size=settings.batch_size)),
            "first": torch.tensor([int(rng.integers(room + 1)) for room in rooms]),
            "kind": torch.tensor(kind),
        }


@dataclass(frozen=True)
class DrawnClip:
    """A clip in one of its crops, and what the generator made of it."""

    path: Path
    box: Box
    is_mirrored: bool
    points: np.ndarray
    """Landmarks (T, 68, 2), -1 to 1."""
    reference: int
    """The frame that was its portrait."""
    latents: Tensor
    """(L, Z, h, w), standardised."""

    def pictures(self, rows: Sequence[int], size_px: int) -> Tensor:
        """(T, S, S, 3) uint8."""
        cut = self.box.cut(torch.from_numpy(read_frames(self.path, list(rows))), size_px)
        return cut.flip(2) if self.is_mirrored else cut


class DecoderStage(RefVaeStage):
    """See the head of this file.

    extra: `size_px`, `num_crops`, `shares` (see `PassageSettings`), `guidances` (pairs for sound and references, one of
    which each clip is drawn with), and weights `part_weight` and `perceptual_weight`.
    """

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        settings = PassageSettings(
            batch_size=config.batch_size,
            seed=config.seed,
            num_crops=int(config.extra["num_crops"]),
            shares=tuple(config.extra["shares"]),
        )
        return Passages(self.clips, settings, rank)

    @cached_property
    def _engine(self) -> RefVae:
        """With copies of the networks that rest."""
        dtype = torch.bfloat16 if self.settings.precision == "bf16" else torch.float32
        return RefVae(
            self.config,
            precision.place(deepcopy(self.networks), self.networks.latent_mean.device, dtype),
            dtype,
        )

    @cached_property
    def _kept(self) -> dict[tuple[int, int], DrawnClip]:
        """Drawn when first asked for; the generator rests."""
        return {}

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        networks, side, kind = self.networks, int(self.settings.extra["size_px"]), KINDS[int(batch["kind"])]
        device = networks.latent_mean.device
        keys = zip(batch["clip"].tolist(), batch["crop"].tolist(), strict=True)
        clips, firsts = [self._drawn(key) for key in keys], batch["first"].tolist()
        rows = [_frames(first) for first in firsts]
        frames = torch.stack([clip.pictures(part, side) for clip, part in zip(clips, rows, strict=True)])
        shown = torch.stack([clip.pictures([clip.reference], side) for clip in clips])
        points = np.stack(
            [clip.points[part.start : part.stop] for clip, part in zip(clips, rows, strict=True)]
        )
        video, references = as_video(frames.to(device)), as_references(shown.to(device))
        if kind == "true":
            with torch.no_grad():
                latents = networks.standardised(networks.vae.encode(video)[0])
        else:
            count = LEAD + SHOWN
            parts = zip(clips, firsts, strict=True)
            latents = torch.stack([clip.latents[first : first + count] for clip, first in parts])
        if kind == "near":
            corners = [_corner(point, self.config.cells) for point in points]
            latents, video, references, points = self._near(corners, latents, video, references, points)
        return self._compared(kind, latents.float(), video, references, torch.from_numpy(points).to(device))

    def _compared(
        self, kind: str, latents: Tensor, video: Tensor, references: Tensor, points: Tensor
    ) -> dict[str, Tensor]:
        vae, size_px = self.networks.vae, video.shape[-1]
        drawn = self.networks.decode(latents, vae.encode_references(references), None).float()
        lead = 1 + TIME_FACTOR * (LEAD - 1)
        drawn, video, points = drawn[:, :, lead:], video[:, :, lead:], points[:, lead:].float()
        parts = (losses.MOUTH, *losses.EYES) if kind == "true" else (losses.MOUTH,)
        weight = float(self.settings.extra["part_weight"])
        weights = losses.part_weights(points, size_px, weight, parts)
        if kind == "whole":
            weights = weights * losses.part_weights(points, size_px, 0.0, losses.EYES)
        terms = {"pixels": (weights * (drawn - video).abs()).mean()}
        if kind == "true" and self.features is not None:
            share = float(self.settings.extra["perceptual_weight"])
            terms["perceptual"] = share * losses.perceptual(self.features, drawn, video)
        return terms

    def _near(
        self,
        corners: Sequence[tuple[int, int]],
        latents: Tensor,
        video: Tensor,
        references: Tensor,
        points: np.ndarray,
    ) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
        """All of it where these corners, in cells, begin: `NEAR` of the side."""
        reach = _reach(self.config.cells)
        pixels = video.shape[-1] // self.config.cells

        def part(x: Tensor, unit: int) -> Tensor:
            cut = [
                row[..., top * unit : (top + reach) * unit, left * unit : (left + reach) * unit]
                for row, (top, left) in zip(x, corners, strict=True)
            ]
            return torch.stack(cut)

        # From -1 to 1 in the whole to the same in the part.
        starts = np.array([(left, top) for top, left in corners]) * 2 / self.config.cells - 1
        moved = (points - starts[:, None, None]) * self.config.cells / reach - 1
        near = part(video, pixels).contiguous(memory_format=torch.channels_last_3d)
        return part(latents, 1), near, part(references, pixels), moved.astype(np.float32)

    def _drawn(self, key: tuple[int, int]) -> DrawnClip:
        if key not in self._kept:
            self._kept[key] = self._draw(*key)
        return self._kept[key]

    @torch.no_grad()
    def _draw(self, number: int, crop: int) -> DrawnClip:
        config, path = self.config, self.clips[number]
        rng = np.random.default_rng([self.settings.seed, number, crop, 61])
        landmarks, side = read_landmarks(path)
        box = Box.around(landmarks[len(landmarks) // 2], Cut.of(config), side, rng)
        is_mirrored = crop % 2 == 1
        points = box.placed(landmarks) * (np.array([-1, 1], np.float32) if is_mirrored else 1)
        made = DrawnClip(path, box, is_mirrored, points, int(rng.integers(len(landmarks))), torch.empty(0))
        guidances = self.settings.extra["guidances"]
        sound, references = guidances[int(rng.integers(len(guidances)))]
        engine = self._engine
        picture = as_references(made.pictures([made.reference], config.image_size)[None])[0] / 2 + 0.5
        state = engine.start(
            engine.encode_reference(picture.to(engine.device)),
            Options(audio_guidance=sound, reference_guidance=references),
            seed=int(rng.integers(2**31)),
        )
        chunk = engine.stream.chunk_frames * engine.stream.samples_per_frame
        samples = torch.from_numpy(read_clip(path).samples)
        whole = torch.nn.functional.pad(samples, (0, -len(samples) % chunk))
        blocks = [engine.draw(state, engine.encode_motion(state, piece))[0] for piece in whole.split(chunk)]
        count = (len(landmarks) - 1) // TIME_FACTOR + 1
        return replace(made, latents=torch.cat(blocks)[:count])


def _frames(first: int) -> range:
    """Of a clip, whose first latent has one frame; the passage's first latent shows the last of its four."""
    return range(TIME_FACTOR * first, TIME_FACTOR * (first + LEAD + SHOWN - 1) + 1)


def _reach(cells: int) -> int:
    """Side of what is near, in cells."""
    return max(1, round(NEAR * cells))


def _corner(points: np.ndarray, cells: int) -> tuple[int, int]:
    """Row and column, in cells, of the part that has the mouths of landmarks (T, 68, 2) in its middle."""
    reach = _reach(cells)
    middle = (points[:, losses.MOUTH].mean((0, 1)) + 1) / 2 * cells
    left, top = np.clip(np.round(middle - reach / 2), 0, cells - reach).astype(int).tolist()
    return top, left

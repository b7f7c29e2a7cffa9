"""What flow matching takes as given, for those who train without published weights: a VAE, and what sees faces.

Letters: B clips, T frames, Z latent channels, E blendshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.flashportrait.kept import (
    FACE,
    LIP,
    Cuts,
    CutSettings,
    aligned_faces,
    placed,
    wobbled,
)
from vivant.engines.flashportrait.networks.portrait_encoder import (
    EMOTION_CHANNELS,
    EYE_CHANNELS,
    HEAD_POSE_CHANNELS,
)
from vivant.engines.flashportrait.stages_talking import TalkingStage
from vivant.training.config import TrainConfig

LATENT_NOISE = 0.1
"""Added to latents while the VAE learns, so that neighbours mean nearly the same picture."""
SCALE_WEIGHT = 0.05
FACE_WEIGHT, LIPS_WEIGHT = 2.0, 6.0
"""How much more an error counts in the face, and in lips, than beside it."""
EDGE_WEIGHT = 1.0
"""Of errors of differences between neighbouring pixels: a blurred mouth errs little in its pixels."""
VAE_CROP = 0.75
"""Of the side of pictures: the VAE learns on squares of them, where its work is nearly half."""
JAW, NOSE_BRIDGE = slice(17), slice(27, 31)
"""Of the 68 points: where they are in an aligned face says how the head is turned."""
EYE_POINTS, MOUTH_POINTS = slice(36, 48), slice(48, 68)
NUM_BLENDSHAPES = 53


class VaeStage(TalkingStage):
    """The VAE alone: short clips come back, and every latent channel has mean 0 and spread 1."""

    @property
    def num_frames(self) -> int:
        return 9

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        return Cuts(
            self.paths, CutSettings(num_frames=9, batch_size=config.batch_size, seed=config.seed), rank
        )

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        vae = self._networks.vae
        frames, weights = self._clips(batch, round(VAE_CROP * self.config.latent_size) * 8)
        latents = vae.encode_clips(frames)
        again = vae.decode_clips(latents + LATENT_NOISE * torch.randn_like(latents))
        error = again - frames
        edges = [error.diff(dim=dim).abs().mean() for dim in (3, 4)]
        spread, mean = torch.std_mean(latents.float(), (0, 2, 3, 4))
        return {
            "pixels": (weights * (error.abs() + error.square())).mean(),
            "edges": EDGE_WEIGHT * (edges[0] + edges[1]),
            "scale": SCALE_WEIGHT * (mean.square().mean() + (spread - 1).square().mean()),
        }

    def _clips(self, batch: dict[str, Tensor], reach: int) -> tuple[Tensor, Tensor]:
        """(B, 3, T, reach, reach) in [-1, 1], and how much each pixel counts (B, 1, T, reach, reach), 1 on average."""
        kept = self.kept(batch["clip"].device)
        rows = kept.rows(batch["clip"], batch["first"], self.num_frames)
        where = (rows, batch["mirrored"], batch["corner"], reach)
        frames = kept.cut(kept.frames, *where).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        parts = kept.cut(kept.parts, *where)[:, None]
        weights = 1 + FACE_WEIGHT * (parts & FACE > 0) + LIPS_WEIGHT * (parts & LIP > 0)
        return frames, weights / weights.mean()

    @torch.no_grad()
    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        """Some clips' last frames, and what came back."""
        frames, _ = self._clips({name: item[:8] for name, item in batch.items()}, self.config.image_size)
        again = network.vae.decode_clips(network.vae.encode_clips(frames))  # type: ignore[operator, union-attr]
        rows = zip(frames[:, :, -1], again[:, :, -1], strict=True)
        return [torch.cat(row, 2) / 2 + 0.5 for row in rows]


class Read(nn.Module):
    """The networks, and what reads the face features while they learn; the readers are left behind."""

    def __init__(self, networks: nn.Module, mouth_channels: int):
        super().__init__()
        self.networks = networks
        self.sizes = [HEAD_POSE_CHANNELS, EYE_CHANNELS, EMOTION_CHANNELS, mouth_channels]
        jaw, nose, eyes, mouth = (
            2 * len(range(68)[part]) for part in (JAW, NOSE_BRIDGE, EYE_POINTS, MOUTH_POINTS)
        )
        wanted = [jaw + nose, eyes, NUM_BLENDSHAPES, mouth]
        self.readers = nn.ModuleList(
            nn.Linear(size, count) for size, count in zip(self.sizes, wanted, strict=True)
        )


class FaceStage(TalkingStage):
    """Face features alone: head pose says where jaw and nose are, eyes and mouth where theirs, emotion the blendshapes.

    All in the aligned face, as PD-FGC sees it; a linear reader per part keeps the parts apart. Where the first face of
    a shot is what is aligned, six numbers are as many as a head's place, size and angles have.
    """

    @property
    def num_frames(self) -> int:
        return 1

    def started(self) -> FaceStage:
        """The same with readers."""
        self.network = Read(self.network, self.config.face_features.mouth_channels)
        return self

    def dataset(self, config: TrainConfig, rank: int, world_size: int) -> Dataset[dict[str, Tensor]]:
        return Cuts(
            self.paths, CutSettings(num_frames=1, batch_size=config.batch_size, seed=config.seed), rank
        )

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        read = self.network
        assert isinstance(read, Read)
        faces, points, expression = self._faces(batch)
        parts = read.networks.face_features(faces).split(read.sizes, -1)  # type: ignore[operator]
        pose, eyes, emotion, mouth = (reader(part) for reader, part in zip(read.readers, parts, strict=True))
        # Blendshapes of the left are those of the right in a mirror; the others' suffice.
        as_they_are = (~batch["mirrored"])[:, None]
        return {
            "pose": (pose - torch.cat([points[:, JAW], points[:, NOSE_BRIDGE]], 1).flatten(1)).abs().mean(),
            "eyes": (eyes - points[:, EYE_POINTS].flatten(1)).abs().mean(),
            "mouth": (mouth - points[:, MOUTH_POINTS].flatten(1)).abs().mean(),
            "emotion": (as_they_are * (emotion - expression).square()).mean(),
        }

    def _faces(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Aligned faces (B, 3, s, s), their points (B, 68, 2) in [-1, 1], and blendshapes (B, E)."""
        kept = self.kept(batch["clip"].device)
        mirrored, size = batch["mirrored"], self.config.face_features.image_size
        rows = kept.rows(batch["clip"], batch["first"], 1)
        from_rows = (
            rows if self.config.alignment == "each" else kept.rows(batch["clip"], batch["reference"], 1)
        )
        sides = mirrored.long()
        matrices = wobbled(kept.alignments[sides, from_rows[:, 0]], batch["wobble"])
        pictures = kept.cut(kept.frames, rows, mirrored, None, kept.side)[:, 0]
        points = placed(kept.points[sides, rows[:, 0]], matrices, size)
        return aligned_faces(pictures, matrices, size), points, kept.expression[rows[:, 0]]

    def export(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, Read)
        checkpoint.save(folder, "flashportrait", self.config, network.networks)

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()

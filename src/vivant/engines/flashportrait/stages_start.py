"""What flow matching takes as given, for those who train without published weights: what sees a driver's face.

The VAE is solved on the way. Letters: B frames, E blendshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from vivant import checkpoint
from vivant.engines.flashportrait.config_networks import EMOTION_CHANNELS, EYE_CHANNELS, HEAD_POSE_CHANNELS
from vivant.engines.flashportrait.kept import (
    Cuts,
    CutSettings,
    aligned_faces,
    placed,
    wobbled,
)
from vivant.engines.flashportrait.stages_talking import TalkingStage
from vivant.ops.heatmaps import bumps
from vivant.studio.talking import NUM_BLENDSHAPES
from vivant.training.config import TrainConfig

JAW, NOSE_BRIDGE = slice(17), slice(27, 31)
"""Of the 68 points: where they are in an aligned face says how the head is turned."""
EYE_POINTS, MOUTH_POINTS = slice(36, 48), slice(48, 68)
BUMP_WEIGHT = 30.0
"""How much more an error of a heatmap counts where the point is; elsewhere there is nothing nearly everywhere."""


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

    What they are read from, the heatmaps, learns to have a bump at each point: without that nothing was learned of eyes
    and mouths in 35,000 pictures. All in the aligned face, as PD-FGC sees it; a linear reader per part keeps the parts
    apart. Where the first face of a shot is what is aligned, six numbers are as many as a head's place, size and angles
    have.
    """

    @property
    def num_frames(self) -> int:
        return 1

    def started(self) -> FaceStage:
        """The same with readers."""
        super().started()
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
        features, heatmaps = read.networks.face_features.read(faces)  # type: ignore[operator, union-attr]
        parts = features.split(read.sizes, -1)
        pose, eyes, emotion, mouth = (reader(part) for reader, part in zip(read.readers, parts, strict=True))
        # Blendshapes of the left are those of the right in a mirror; the others' suffice.
        as_they_are = (~batch["mirrored"])[:, None]
        wanted = bumps(points, heatmaps.shape[-1])
        return {
            "heatmaps": ((1 + BUMP_WEIGHT * wanted) * (heatmaps.float() - wanted).square()).mean(),
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

"""What the three stages take as given, for those who train without published weights: what sees faces.

The VAE is solved on the way (solving.py). Legend: B batch, S picture side, s side of face crops, M heatmaps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vivant.engines.personalive.motion import cut_faces, face_boxes
from vivant.engines.personalive.networks import Networks
from vivant.engines.personalive.resident import Truth
from vivant.engines.personalive.stages import Diffusion, TrainedNetworks
from vivant.ops.heatmaps import bumps
from vivant.studio.talking import NUM_BLENDSHAPES

EYES_AND_MOUTH = slice(36, 68)
"""Of the 68 points: what the first heatmaps show."""
BUMP_WEIGHT = 30.0
"""How much more an error of a heatmap counts where the point is; elsewhere there is nothing nearly everywhere."""
BLENDSHAPES_WEIGHT = 4.0
CROP_WOBBLE = 0.02
"""Spread of what face crops are off by, of size and in crop units: in the engine they are measured from heads that the
face mesh sees."""


class Read(TrainedNetworks):
    """The networks, and what reads motion tokens while they learn; the readers are left behind."""

    def __init__(self, networks: Networks, num_tokens: int, num_maps: int):
        super().__init__(networks, None)
        self.points = nn.Linear(num_tokens, 2 * num_maps)
        self.blendshapes = nn.Linear(num_tokens, NUM_BLENDSHAPES)


class StartStage(Diffusion):
    """The motion encoder learns what a face does.

    Heatmaps, which motion tokens are read from, learn to have a bump at each point of eyes and mouth: without that
    little is learned of them. Linear readers of the tokens say where these points are, and the blendshapes.
    """

    def _trained(self, networks: Networks) -> TrainedNetworks:
        encoder = self.config.motion_encoder
        points = range(68)[EYES_AND_MOUTH]
        assert encoder.num_heatmaps >= len(points)
        return Read(networks, encoder.num_tokens * encoder.motion_channels, len(points))

    def losses(self, batch: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        device = batch["clip"].device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            truth = self.resident(device).truth(batch)
        pictures = truth.pictures.movedim(-1, 1).float() / 255
        return self.network(lambda: self._face_terms(pictures, truth, ~batch["mirrored"]))

    def _face_terms(self, pictures: Tensor, truth: Truth, unmirrored: Tensor) -> dict[str, Tensor]:
        read, encoder, side = self.network, self.networks.motion_encoder, pictures.shape[-1]
        assert isinstance(read, Read)
        size, place = torch.randn(2, len(pictures), 1, 3, device=pictures.device) * CROP_WOBBLE
        boxes = face_boxes(truth.heads.keypoints * (1 + size) + place, side, side)
        faces = cut_faces(pictures, boxes, self.config.motion_encoder.image_size)
        corner, extent = boxes[:, None, :2], (boxes[:, 2:] - boxes[:, :2])[:, None]
        points = ((truth.points[:, EYES_AND_MOUTH] + 1) * (side / 2) - corner) / extent * 2 - 1
        heatmaps = encoder.model.heatmaps(faces * 2 - 1)
        tokens = encoder.tokens(heatmaps).flatten(1)
        wanted, shown = bumps(points, heatmaps.shape[-1]), heatmaps[:, : points.shape[1]].float()
        # Blendshapes of the left are those of the right in a mirror; the others' suffice.
        error = (read.blendshapes(tokens) - truth.expression).square() * unmirrored[:, None]
        return {
            "heatmaps": ((1 + BUMP_WEIGHT * wanted) * (shown - wanted).square()).mean(),
            "points": (read.points(tokens) - points.flatten(1)).abs().mean(),
            "blendshapes": BLENDSHAPES_WEIGHT * error.mean(),
        }

    def pictures(self, network: nn.Module, batch: dict[str, Tensor]) -> Sequence[Tensor]:
        return ()

"""A small identity embedding of our own: who a crop shows, as a unit vector.

It is trained on synthetic people (`vivant.training.identity`) and stands in where no given network is used: for the
identity term of training, and as a measure that is named differently from the published face-recognition scores.
"""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vivant.errors import CheckpointError
from vivant.store import embedded_weights


def _stage(num_in: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_in, num_out, 3, 2, 1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(num_out, num_out, 3, 1, 1, bias=False),
        nn.BatchNorm2d(num_out),
        nn.ReLU(inplace=True),
    )


class IdentityNetwork(nn.Module):
    """(B, 3, S, S) RGB in [0, 1], a portrait crop of any size -> (B, D) unit vectors."""

    IMAGE_SIZE = 96

    def __init__(self, channels: tuple[int, ...] = (32, 64, 96, 128), dim: int = 128):
        super().__init__()
        self.stages = nn.Sequential(
            *(_stage(a, b) for a, b in zip((3, *channels[:-1]), channels, strict=True))
        )
        self.head = nn.Linear(channels[-1], dim)

    def forward(self, image: Tensor) -> Tensor:
        size = (self.IMAGE_SIZE, self.IMAGE_SIZE)
        small = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        return F.normalize(self.head(self.stages(small).mean((2, 3))).float(), dim=1)


def embedded_identity() -> Path:
    """The file in the package."""
    return embedded_weights("identity") / "identity.safetensors"


def load_identity(path: Path | None = None) -> IdentityNetwork:
    """The embedding in evaluation mode, from `path` or the weights in the package.

    Raises CheckpointError where the file is missing or holds something else.
    """
    file = path or embedded_identity()
    if not file.is_file():
        raise CheckpointError(f"there is no {file}; train it with `vivant train face/identity`")
    network = IdentityNetwork()
    try:
        network.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in load_file(file).items()}
        )
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{file} is not our identity network: {error}") from error
    return network.eval()

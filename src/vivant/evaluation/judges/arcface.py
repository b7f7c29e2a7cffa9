"""Face recognition as CSIM uses it: the IR-ResNets of ArcFace (J. Deng et al., arXiv 1801.07698).

Keys are those of insightface's arcface_torch (`backbone.pth`); 18 to 200 layers are told apart by their keys. The
released weights are for non-commercial research; this project ships none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from vivant import published
from vivant.errors import CheckpointError

INPUT_PX = 112
NUM_FEATURES = 512
WIDTHS = (64, 128, 256, 512)
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}
TEMPLATE = (
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041),
)  # fmt: skip
"""Where the aligned picture of 112 px has image-left and image-right eye, nose tip, and mouth corners."""


class _Block(nn.Module):
    def __init__(self, num_in: int, num_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.prelu = nn.PReLU(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(num_out)
        self.downsample = (
            nn.Sequential(nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out))
            if stride > 1 or num_in != num_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class ArcFace(nn.Module):
    """Aligned faces (T, 3, 112, 112), RGB in [0, 1] -> unit vectors (T, 512)."""

    def __init__(self, num_layers: int = 50) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.prelu = nn.PReLU(WIDTHS[0])
        num_in = WIDTHS[0]
        for number, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[num_layers], strict=True), 1):
            blocks = [_Block(num_in, width, 2), *(_Block(width, width, 1) for _ in range(depth - 1))]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            num_in = width
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1] * (INPUT_PX // 16) ** 2, NUM_FEATURES)
        self.features = nn.BatchNorm1d(NUM_FEATURES)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(2 * faces - 1)))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return F.normalize(self.features(self.fc(self.bn2(x).flatten(1))), dim=1)


def load_arcface(path: Path) -> ArcFace:
    """The network whose depth the file has. Raises CheckpointError where it is another network."""
    found = published.check_tensors(path, published.read_file(path))
    network = ArcFace(_num_layers(path, found))
    published.check_fit(path, found, network.state_dict(), "")
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)


def _num_layers(path: Path, found: Mapping[str, Tensor]) -> int:
    depth = tuple(
        len({key.split(".")[1] for key in found if key.startswith(f"layer{number}.")})
        for number in range(1, 5)
    )
    for num_layers, known in DEPTHS.items():
        if depth == known:
            return num_layers
    raise CheckpointError(f"{path} is not an IR-ResNet of arcface_torch: its layers have {depth} blocks")

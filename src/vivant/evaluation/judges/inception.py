"""Inception-v3 as FID uses it: the 2048 features before the classifier (C. Szegedy et al., arXiv 1512.00567).

Keys and details are those of pytorch-fid's file pt_inception-2015-12-05, the port of the TensorFlow network with
which M. Heusel et al. (arXiv 1706.08500) defined FID: average pools do not count padding, and the last block pools by
maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivant import published

INPUT_PX = 299
NUM_FEATURES = 2048
NUM_CLASSES = 1008


class _Conv(nn.Module):
    def __init__(
        self,
        num_in: int,
        num_out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(num_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Step(NamedTuple):
    """One convolution of a branch: name, channels out, kernel, stride, padding."""

    name: str
    num_out: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padding: int | tuple[int, int] = 0


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _Block(nn.Module):
    """Branches side by side; a step whose name begins with "split_" is a pair fed by the same input."""

    def __init__(self, num_in: int, branches: Sequence[Sequence[_Step]], pool: str) -> None:
        super().__init__()
        self.branches, self.pool = branches, pool
        for steps in branches:
            width = num_in
            for step in steps:
                for name, kernel, padding in _halves(step):
                    self.add_module(name, _Conv(width, step.num_out, kernel, step.stride, padding))
                width = step.num_out

    def forward(self, x: Tensor) -> Tensor:
        outputs = [self._branch(x, steps) for steps in self.branches]
        if self.pool == "down":
            outputs.append(F.max_pool2d(x, 3, 2))
        return torch.cat(outputs, 1)

    def _branch(self, x: Tensor, steps: Sequence[_Step]) -> Tensor:
        if steps[0].name == "branch_pool":
            x = F.max_pool2d(x, 3, 1, 1) if self.pool == "max" else _average(x)
        for step in steps:
            x = torch.cat([self.get_submodule(name)(x) for name, _, _ in _halves(step)], 1)
        return x


def _halves(step: _Step) -> list[tuple[str, int | tuple[int, int], int | tuple[int, int]]]:
    if not step.name.startswith("split_"):
        return [(step.name, step.kernel, step.padding)]
    name = step.name.removeprefix("split_")
    return [(f"{name}a", (1, 3), (0, 1)), (f"{name}b", (3, 1), (1, 0))]


def _a(num_in: int, pooled: int) -> _Block:
    return _Block(
        num_in,
        (
            (_Step("branch1x1", 64),),
            (_Step("branch5x5_1", 48), _Step("branch5x5_2", 64, 5, 1, 2)),
            (
                _Step("branch3x3dbl_1", 64),
                _Step("branch3x3dbl_2", 96, 3, 1, 1),
                _Step("branch3x3dbl_3", 96, 3, 1, 1),
            ),
            (_Step("branch_pool", pooled),),
        ),
        "average",
    )


def _b(num_in: int) -> _Block:
    return _Block(
        num_in,
        (
            (_Step("branch3x3", 384, 3, 2),),
            (
                _Step("branch3x3dbl_1", 64),
                _Step("branch3x3dbl_2", 96, 3, 1, 1),
                _Step("branch3x3dbl_3", 96, 3, 2),
            ),
        ),
        "down",
    )


def _c(num_in: int, width: int) -> _Block:
    row, column = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    return _Block(
        num_in,
        (
            (_Step("branch1x1", 192),),
            (
                _Step("branch7x7_1", width),
                _Step("branch7x7_2", width, *row),
                _Step("branch7x7_3", 192, *column),
            ),
            (
                _Step("branch7x7dbl_1", width),
                _Step("branch7x7dbl_2", width, *column),
                _Step("branch7x7dbl_3", width, *row),
                _Step("branch7x7dbl_4", width, *column),
                _Step("branch7x7dbl_5", 192, *row),
            ),
            (_Step("branch_pool", 192),),
        ),
        "average",
    )


def _d(num_in: int) -> _Block:
    return _Block(
        num_in,
        (
            (_Step("branch3x3_1", 192), _Step("branch3x3_2", 320, 3, 2)),
            (
                _Step("branch7x7x3_1", 192),
                _Step("branch7x7x3_2", 192, (1, 7), 1, (0, 3)),
                _Step("branch7x7x3_3", 192, (7, 1), 1, (3, 0)),
                _Step("branch7x7x3_4", 192, 3, 2),
            ),
        ),
        "down",
    )


def _e(num_in: int, pool: str) -> _Block:
    return _Block(
        num_in,
        (
            (_Step("branch1x1", 320),),
            (_Step("branch3x3_1", 384), _Step("split_branch3x3_2", 384)),
            (
                _Step("branch3x3dbl_1", 448),
                _Step("branch3x3dbl_2", 384, 3, 1, 1),
                _Step("split_branch3x3dbl_3", 384),
            ),
            (_Step("branch_pool", 192),),
        ),
        pool,
    )


class Inception(nn.Module):
    """Pictures (T, 3, H, W) in [0, 1] -> features (T, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _a(192, 32), _a(256, 64), _a(288, 64)
        self.Mixed_6a = _b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _c(768, w) for w in (128, 160, 160, 192)
        )
        self.Mixed_7a = _d(768)
        self.Mixed_7b, self.Mixed_7c = _e(1280, "average"), _e(2048, "max")
        # Not used for FID; it is in the published file.
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(pictures, size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = self.get_submodule(f"Mixed_{name}")(x)
        return x.mean((2, 3))


def load_inception(path: Path) -> Inception:
    """The network with the weights of pytorch-fid's file. Raises CheckpointError where it is another."""
    network = Inception()
    found = published.check_tensors(path, published.read_file(path))
    expected = network.state_dict()
    # Files of that age lack the counters, which inference does not read.
    found = {
        key: found.get(key, expected[key]) for key in expected if key.endswith("num_batches_tracked")
    } | found
    published.check_fit(path, found, expected, "")
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)

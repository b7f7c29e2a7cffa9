"""LPIPS: distance between pictures in the features of a classifier (R. Zhang et al., arXiv 1801.03924), version 0.1.

The trunks are torchvision's AlexNet and VGG16, the heads those of the package lpips; keys are theirs, so either the two
released files (trunk and heads) or one state dict of the whole network load.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vivant import published
from vivant.errors import CheckpointError


class _Conv(NamedTuple):
    """A convolution of a trunk, which a ReLU follows."""

    num_out: int
    kernel: int
    stride: int
    padding: int


_ALEX = (_Conv(64, 11, 4, 2), None, _Conv(192, 5, 1, 2), None, *(_Conv(w, 3, 1, 1) for w in (384, 256, 256)))
_VGG = tuple(
    _Conv(width, 3, 1, 1) if width else None
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
)
"""None stands for a pool."""
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
"""Entries of the trunk, all ReLUs, whose output is compared."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_SMALLEST = 1e-10


def _trunk(kind: str) -> nn.Sequential:
    alex = kind == "alex"
    layers: list[nn.Module] = []
    num_in = 3
    for entry in _ALEX if alex else _VGG:
        if entry is None:
            layers.append(nn.MaxPool2d(3, 2) if alex else nn.MaxPool2d(2, 2))
            continue
        layers += [
            nn.Conv2d(num_in, entry.num_out, entry.kernel, entry.stride, entry.padding),
            nn.ReLU(),
        ]
        num_in = entry.num_out
    return nn.Sequential(*layers)


class Lpips(nn.Module):
    """Distance of pictures (T, 3, H, W) in [0, 1]; kind is "alex" or "vgg"."""

    shift: Tensor
    scale: Tensor

    def __init__(self, kind: str = "alex") -> None:
        super().__init__()
        self.kind, self.taps = kind, _TAPS[kind]
        self.features = _trunk(kind)
        widths = [layer.out_channels for layer in self.features if isinstance(layer, nn.Conv2d)]
        convolutions = [at for at, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]
        self.heads = nn.ModuleList(
            nn.Conv2d(widths[convolutions.index(tap - 1)], 1, 1, bias=False) for tap in self.taps
        )
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def forward(self, frames: Tensor, truth: Tensor) -> Tensor:
        """(T,) distances, 0 where pictures are the same."""
        if frames.shape != truth.shape:
            raise ValueError(f"frames {tuple(frames.shape)} and truth {tuple(truth.shape)} differ in shape")
        x, y = ((2 * each - 1 - self.shift) / self.scale for each in (frames, truth))
        distance = x.new_zeros(len(x))
        for at, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if at in self.taps:
                head = self.heads[self.taps.index(at)]
                distance = distance + head((_unit(x) - _unit(y)).square()).mean((1, 2, 3))
        return distance


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + _SMALLEST)


def load_lpips(kind: str, trunk: Path, heads: Path | None = None) -> Lpips:
    """From torchvision's classifier and lpips's heads, or from one state dict of lpips's whole network.

    Raises CheckpointError where a file is something else.
    """
    network = Lpips(kind)
    tensors = published.check_tensors(trunk, published.read_file(trunk))
    whole = any(key.startswith("net.slice") for key in tensors)
    found = {name: tensor for key, tensor in tensors.items() if (name := _our_name(key)) is not None}
    if not whole:
        if heads is None:
            raise CheckpointError(
                f"{trunk} is the trunk of LPIPS only; give its heads too: --weights lpips-{kind}-heads=PATH"
            )
        more = published.check_tensors(heads, published.read_file(heads))
        found |= {name: tensor for key, tensor in more.items() if (name := _our_name(key)) is not None}
    published.check_fit(trunk, found, network.state_dict(), "")
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)


def _our_name(key: str) -> str | None:
    """torchvision: features.0.weight; lpips: net.slice1.0.weight, lin0.model.1.weight (lins.0. repeats it)."""
    parts = key.split(".")
    if key.startswith("net.slice"):
        return ".".join(["features", *parts[2:]])
    if parts[0] == "features":
        return key
    if parts[0].startswith("lin") and parts[0][3:].isdigit():
        return f"heads.{parts[0][3:]}.weight"
    return None


def published_keys(network: Lpips) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the whole network as the package lpips saves it."""
    slices = {at: sum(tap < at for tap in network.taps) + 1 for at in range(len(network.features))}
    keys = {}
    for name, tensor in network.state_dict().items():
        kind, at, leaf = name.split(".")
        key = f"net.slice{slices[int(at)]}.{at}.{leaf}" if kind == "features" else f"lin{at}.model.1.weight"
        keys[key] = tuple(tensor.shape)
    return keys

"""What the decoders of a stream saw last. Apart from the networks, so that states are read without their libraries."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(kw_only=True)
class VaeCache:
    """One direction of the video VAE; empty before the first frame or latent."""

    features: list[Tensor | None] = field(default_factory=list)
    """Per causal convolution, its last two input frames (1, C, T, H, W)."""
    repeats: list[bool] = field(default_factory=list)
    """Per causal convolution, whether it has let only the first frame pass."""

    @property
    def is_empty(self) -> bool:
        return not self.features

    def move(self, device: torch.device) -> None:
        """Lie somewhere else."""
        self.features = [None if x is None else x.to(device) for x in self.features]


@dataclass(kw_only=True)
class TinyVaeCache:
    """The tiny decoder; empty before the first latent."""

    past: list[Tensor] = field(default_factory=list)
    """The last input (1, C, H, W) of every block."""

    def move(self, device: torch.device) -> None:
        """Lie somewhere else."""
        self.past = [x.to(device) for x in self.past]

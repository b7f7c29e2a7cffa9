"""What the decoders of a stream saw last. Apart from the networks, so that states are read without their libraries."""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(kw_only=True)
class TinyVaeCache:
    """The tiny decoder; empty before the first latent."""

    past: list[Tensor] = field(default_factory=list)
    """The last input (1, C, H, W) of every block."""

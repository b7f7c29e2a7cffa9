"""What flows through the video diffusion transformer. Letters as in transformer.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Outputs: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""What self-attention, cross-attention and feed-forward of one block gave, each (B, L, D), before their gates."""


@dataclass(frozen=True)
class Conditions:
    """What the transformer is told, one row per sample."""

    text: Tensor
    """(B, tokens, text channels), zero-padded; padding is not masked, as published."""
    image: Tensor
    """(B, tokens, image channels): the reference as the image encoder sees it."""
    expression: Tensor
    """(B, F, P, expression channels): for each latent, the tokens of its frames."""
    expression_scale: Tensor
    """(B,): weight of the expression branch; 1 as trained, 0 without the driver."""


@dataclass(frozen=True)
class Context:
    """Conditions at the width of the blocks."""

    text: Tensor
    image: Tensor
    expression: Tensor
    expression_scale: Tensor


@dataclass(frozen=True)
class Stream:
    """Everything the blocks need, made by `enter`."""

    hidden: Tensor
    """(B, L, D)."""
    time: Tensor
    """(B, D): the embedded time."""
    modulation: Tensor
    """(B, 1 or F, 6, D): what it, and where it is configured the motion of each latent, says to every block."""
    rotary: tuple[Tensor, Tensor]
    context: Context
    grid: tuple[int, int, int]
    """Patches along time, rows, columns."""
    noisy: tuple[Tensor, Tensor] | None = None
    """Latents (B, Z, F, h, w) and time (B,) in [0, 1], for a network that answers with clean latents."""

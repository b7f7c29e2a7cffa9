"""Grades as numbers, and pictures graded by them on their device: colours, a curve, blur, grain.

As `compose.py` grades one picture at a time, but for JPEG, which no picture passes, and grain, which comes from the
device's generator. Legend: B items, P pictures of an item, n side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
BLUR_SIDE = 256
"""Side of the pictures whose pixels blur is measured in."""


def grades(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Of the kinds and sizes of `compose.random_grade`, less JPEG."""

    def some(chance: float) -> np.ndarray:
        return rng.random(count) < chance

    saturation = np.where(some(0.06), 0.0, rng.uniform(0.4, 1.45, count))[:, None, None]
    matrix = np.eye(3) * saturation + (1 - saturation) * np.array(LUMA)
    mixing = np.eye(3) + 0.1 * rng.normal(size=(count, 3, 3)) * some(0.12)[:, None, None]
    gains = rng.uniform(0.82, 1.15, (count, 1)) * np.exp(rng.normal(size=(count, 3)) * 0.06)
    contrast, offset = rng.uniform(0.82, 1.18, (count, 1)), rng.normal(size=(count, 1)) * 7
    gamma = np.exp(rng.normal(size=(count, 1)) * 0.18)
    numbers = {
        "matrix": matrix @ mixing,
        "curve": np.concatenate([gains, contrast, offset, gamma], 1),
        "blur": np.where(some(0.25), rng.uniform(0.3, 1.2, count), 0.0),
        "noise": np.where(some(0.35), rng.uniform(1, 8, count), 0.0),
    }
    return {name: value.astype(np.float32) for name, value in numbers.items()}


def graded(pictures: Tensor, how: Mapping[str, Tensor]) -> Tensor:
    """Pictures (B, P, n, n, 3) uint8 -> the same shape, pictures of an item alike but for their grain."""
    pixels = pictures.movedim(-1, 2).float()
    gains, contrast, offset, gamma = how["curve"][:, None, :, None, None].split((3, 1, 1, 1), 2)
    mixed = torch.einsum("bij,bpjhw->bpihw", how["matrix"], pixels).clamp(0, 255)
    lit = ((mixed - 128) * contrast + 128 + offset) * gains
    toned = (lit.clamp(0, 255) / 255) ** gamma * 255
    # A Gaussian this narrow is three pixels wide.
    spread = how["blur"] * (pixels.shape[-1] / BLUR_SIDE)
    beside = torch.exp(-0.5 / spread.clamp(min=1e-3) ** 2)[:, None, None, None, None]
    blurred = _blurred(_blurred(toned, beside).mT, beside).mT
    grain = torch.randn_like(blurred[:, :, :1]) * how["noise"][:, None, None, None, None]
    return (blurred + grain + 0.5).clamp(0, 255).byte().movedim(2, -1)


def _blurred(x: Tensor, beside: Tensor) -> Tensor:
    """Along the last axis, with weights 1 for a pixel and `beside` for its neighbours."""
    wide = torch.cat([x[..., :1], x, x[..., -1:]], -1)
    return (x + beside * (wide[..., :-2] + wide[..., 2:])) / (1 + 2 * beside)

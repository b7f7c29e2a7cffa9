"""Peak signal-to-noise ratio: 10 log10(1 / mean squared error), in dB, of values in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vivant.evaluation.metrics.regions import Box

LARGEST_DB = 100.0
"""What equal pictures score, so that means stay finite."""


def psnr(frames: Tensor, truth: Tensor) -> Tensor:
    """(T,) dB of frames against truth, both (T, 3, H, W) in [0, 1]: all pixels and colours weigh the same."""
    if frames.shape != truth.shape:
        raise ValueError(f"frames {tuple(frames.shape)} and truth {tuple(truth.shape)} differ in shape")
    error = (frames.double() - truth.double()).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp(min=10 ** (-LARGEST_DB / 10)))


def region_psnr(frames: Tensor, truth: Tensor, boxes: Sequence[Box]) -> Tensor:
    """(T,) dB inside one box per frame."""
    return torch.cat(
        [
            psnr(frames[i : i + 1, :, box.rows, box.columns], truth[i : i + 1, :, box.rows, box.columns])
            for i, box in enumerate(boxes)
        ]
    )

"""L1: mean absolute difference of values in [0, 1]."""

from __future__ import annotations

from torch import Tensor


def l1(frames: Tensor, truth: Tensor) -> Tensor:
    """(T,) of frames against truth, both (T, 3, H, W) in [0, 1]: all pixels and colours weigh the same."""
    if frames.shape != truth.shape:
        raise ValueError(f"frames {tuple(frames.shape)} and truth {tuple(truth.shape)} differ in shape")
    return (frames.double() - truth.double()).abs().flatten(1).mean(1)

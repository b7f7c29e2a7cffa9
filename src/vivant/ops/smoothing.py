"""Smoothing of a whole clip: a scalar Kalman filter forwards, Rauch-Tung-Striebel backwards."""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_clip(values: Tensor, *, process_variance: float, observation_variance: float) -> Tensor:
    """Random-walk smoother along the first dimension: (T, ...) -> (T, ...), every entry on its own.

    Identity dynamics and observation, start at the first sample with variance 1. All entries share the gains,
    so the variances are plain numbers. Runs in float64: a clip is short and the recursion is not forgiving.
    """
    filtered, variances = [], []
    mean, variance = values[0].double(), 1.0
    for observed in values.double():
        gain = variance / (variance + observation_variance)
        mean = mean + gain * (observed - mean)
        variance = (1 - gain) * variance
        filtered.append(mean)
        variances.append(variance)
        variance += process_variance
    smoothed = [filtered[-1]]
    for mean, variance in zip(filtered[-2::-1], variances[-2::-1], strict=True):
        gain = variance / (variance + process_variance)
        smoothed.append(mean + gain * (smoothed[-1] - mean))
    return torch.stack(smoothed[::-1]).to(values.dtype)

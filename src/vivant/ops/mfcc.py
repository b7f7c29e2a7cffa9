"""Mel cepstra as SyncNet hears them: what python_speech_features 0.6 gives by default, in float64.

Windows of 25 ms without a taper every 10 ms at 16 kHz, 512-point power spectrum, 26 bands, 13 coefficients, lifter 22,
and the logarithm of the window's energy in the place of the first coefficient.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE_HZ = 16000
WINDOW, HOP, NUM_POINTS = 400, 160, 512
NUM_BANDS, NUM_COEFFICIENTS = 26, 13
PRE_EMPHASIS, LIFTER = 0.97, 22
FLOOR = torch.finfo(torch.float64).eps
"""What exact zeros become before the logarithm."""


def mfcc(samples: Tensor) -> Tensor:
    """Samples (S,) at 16 kHz in [-1, 1] -> (13, 1 + ceil((S - 400) / 160)) float64."""
    # The published numbers are those of 16-bit integers.
    signal = (samples.double() * 32768).round()
    signal = torch.cat([signal[:1], signal[1:] - PRE_EMPHASIS * signal[:-1]])
    count = 1 + max(0, math.ceil((len(signal) - WINDOW) / HOP))
    padded = F.pad(signal, (0, (count - 1) * HOP + WINDOW - len(signal)))
    power = torch.fft.rfft(padded.unfold(0, WINDOW, HOP), NUM_POINTS).abs().square() / NUM_POINTS
    energy = _floored(power.sum(1)).log()
    cepstra = _cosines() @ _floored(power @ _bands().T).log().T
    n = torch.arange(NUM_COEFFICIENTS, dtype=torch.float64)
    cepstra = cepstra * (1 + LIFTER / 2 * torch.sin(math.pi * n / LIFTER))[:, None]
    cepstra[0] = energy
    return cepstra


def _floored(values: Tensor) -> Tensor:
    return torch.where(values == 0, FLOOR, values)


def _bands() -> Tensor:
    """(26, 257) triangles between whole bins, equally spaced in mel from 0 to 8 kHz."""
    highest = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges = [
        math.floor(
            (NUM_POINTS + 1) * 700 * (10 ** (highest * i / (NUM_BANDS + 1) / 2595) - 1) / SAMPLE_RATE_HZ
        )
        for i in range(NUM_BANDS + 2)
    ]
    bands = torch.zeros(NUM_BANDS, NUM_POINTS // 2 + 1, dtype=torch.float64)
    for band in range(NUM_BANDS):
        low, middle, high = edges[band : band + 3]
        for at in range(low, middle):
            bands[band, at] = (at - low) / (middle - low)
        for at in range(middle, high):
            bands[band, at] = (high - at) / (high - middle)
    return bands


def _cosines() -> Tensor:
    """(13, 26): the orthonormal cosine transform of the second kind."""
    k = torch.arange(NUM_COEFFICIENTS, dtype=torch.float64)[:, None]
    n = torch.arange(NUM_BANDS, dtype=torch.float64)[None]
    table = torch.cos(math.pi * k * (2 * n + 1) / (2 * NUM_BANDS)) * math.sqrt(2 / NUM_BANDS)
    table[0] /= math.sqrt(2)
    return table

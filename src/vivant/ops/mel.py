"""The mel spectrogram of the lip-sync expert, whole or as a stream: 80 bands, 80 columns a second, from 16 kHz sound.

Pre-emphasis, 800-sample Hann window every 200 samples, magnitude, Slaney bands from 55 to 7600 Hz, decibels, scaled to
[-4, 4] (front end of Wav2Lip, arXiv 2008.10010). Column m needs samples up to 200 m + 399. Computed in float64: in
float32 quiet columns differ in the fourth digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE_HZ = 16_000
HOP, WINDOW = 200, 800
NUM_BANDS = 80
LOWEST_HZ, HIGHEST_HZ = 55.0, 7600.0
PRE_EMPHASIS = 0.97
FLOOR, REFERENCE_DB, RANGE_DB, LIMIT = 1e-5, 20.0, 100.0, 4.0
SILENCE = -LIMIT


@dataclass(kw_only=True)
class MelState:
    """What a stream remembers between two pieces of sound."""

    last_sample: Tensor
    """(1,) float64: for the pre-emphasis."""
    samples: Tensor
    """(n,) float64: emphasised samples that later columns need; at most WINDOW + HOP - 1 of them."""
    started: bool
    """Whether the mirrored beginning has been laid before the first sample."""


def new_mel_state() -> MelState:
    """A stream that has heard nothing."""
    none = torch.zeros(0, dtype=torch.float64)
    return MelState(last_sample=none.new_zeros(1), samples=none, started=False)


def mel(samples: Tensor) -> Tensor:
    """Samples (S,) in [-1, 1] -> (80, 1 + S // 200) in [-4, 4]. Both ends are mirrored; S is 401 or more."""
    emphasised = _emphasised(samples.double(), samples.new_zeros(1).double())
    padded = F.pad(emphasised[None, None], (WINDOW // 2, WINDOW // 2), mode="reflect")[0, 0]
    return _columns(padded)


def mel_piece(state: MelState, samples: Tensor) -> Tensor:
    """Next samples (S,) of a stream -> the columns (80, n) that they complete; changes the state.

    The same numbers as `mel` gives, but for its last two columns, which mirror an end that a stream does not have.
    """
    samples = samples.double().cpu()
    if len(samples):
        joined = torch.cat([state.samples.cpu(), _emphasised(samples, state.last_sample.cpu())])
        state.last_sample = samples[-1:].clone()
    else:
        joined = state.samples.cpu()
    half = WINDOW // 2
    if not state.started:
        if len(joined) <= half:
            state.samples = joined
            return joined.new_zeros(NUM_BANDS, 0)
        joined = torch.cat([joined[1 : half + 1].flip(0), joined])
        state.started = True
    count = max(0, 1 + (len(joined) - WINDOW) // HOP)
    state.samples = joined[count * HOP :].clone()
    return _columns(joined[: (count - 1) * HOP + WINDOW]) if count else joined.new_zeros(NUM_BANDS, 0)


def _emphasised(samples: Tensor, before: Tensor) -> Tensor:
    return samples - PRE_EMPHASIS * torch.cat([before, samples[:-1]])


def _columns(samples: Tensor) -> Tensor:
    frames = samples.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW, dtype=torch.float64)
    bands = mel_filters() @ torch.fft.rfft(frames).abs().T
    decibels = 20 * torch.log10(bands.clamp(min=FLOOR)) - REFERENCE_DB
    return (2 * LIMIT * (decibels + RANGE_DB) / RANGE_DB - LIMIT).clamp(-LIMIT, LIMIT)


@lru_cache(maxsize=1)
def mel_filters() -> Tensor:
    """(80, 401) float64: triangles on the Slaney scale, each of unit area."""
    edges = _hertz(torch.linspace(_mels(LOWEST_HZ), _mels(HIGHEST_HZ), NUM_BANDS + 2, dtype=torch.float64))
    bins = torch.linspace(0, SAMPLE_RATE_HZ / 2, WINDOW // 2 + 1, dtype=torch.float64)
    widths = edges.diff()
    slopes = edges[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    return torch.minimum(rising, falling).clamp(min=0) * (2 / (edges[2:] - edges[:-2]))[:, None]


# The Slaney scale: linear up to 1000 Hz (15 mels), logarithmic above.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200.0 / 3, 1000.0, 0.06875177742094912


def _mels(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return (
        _KNEE_HZ / _HZ_PER_MEL
        + float(torch.log(torch.tensor(hertz / _KNEE_HZ, dtype=torch.float64))) / _LOG_STEP
    )


def _hertz(mels: Tensor) -> Tensor:
    knee = _KNEE_HZ / _HZ_PER_MEL
    return torch.where(mels < knee, mels * _HZ_PER_MEL, _KNEE_HZ * torch.exp(_LOG_STEP * (mels - knee)))

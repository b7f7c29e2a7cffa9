"""Motion of the family: what each video frame hears.

Frame f hears 16 columns of the mel spectrogram (200 ms) that begin at column 3.2 (f - lead); what lies before the
sound is silence. Legend: F video frames, C audio features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vivant.engines.refvae.sync_expert import WINDOW_COLUMNS
from vivant.ops.mel import NUM_BANDS, SILENCE, MelState, mel_piece, new_mel_state
from vivant.ops.rows import FrameRows


@dataclass
class Motion(FrameRows):
    """The sound of F video frames, as the audio tower understands it."""

    features: Tensor
    """(F, C)."""


@dataclass(kw_only=True)
class Hearing:
    """The sound of a stream as far as later frames need it."""

    mel: MelState
    columns: Tensor
    """(80, n) float64: columns that frames to come will hear."""
    first_column: int
    """Number of the first of them; negative while the silence before the sound is still in reach."""


def new_hearing(lead_frames: int) -> Hearing:
    """Before the first sample."""
    first = first_column(0, lead_frames)
    silence = torch.full((NUM_BANDS, -first), SILENCE, dtype=torch.float64)
    return Hearing(mel=new_mel_state(), columns=silence, first_column=first)


def first_column(frame: int, lead_frames: int) -> int:
    """Where the window of a video frame at 25 Hz begins: 3.2 columns per frame, rounded down."""
    return 16 * (frame - lead_frames) // 5


def hear(hearing: Hearing, samples: Tensor) -> None:
    """Take in the next samples (S,)."""
    new = mel_piece(hearing.mel, samples)
    hearing.columns = torch.cat([hearing.columns.cpu(), new], 1)


def windows(hearing: Hearing, frames: range, lead_frames: int) -> Tensor:
    """Mel windows (F, 1, 80, 16) float32 of these frames; forgets what no later frame hears."""
    starts = [first_column(frame, lead_frames) - hearing.first_column for frame in frames]
    assert starts[0] >= 0
    assert starts[-1] + WINDOW_COLUMNS <= hearing.columns.shape[1], "a chunk holds what its frames hear"
    out = torch.stack([hearing.columns[:, start : start + WINDOW_COLUMNS] for start in starts])
    keep = first_column(frames[-1] + 1, lead_frames)
    hearing.columns = hearing.columns[:, keep - hearing.first_column :].clone()
    hearing.first_column = keep
    return out[:, None].float()

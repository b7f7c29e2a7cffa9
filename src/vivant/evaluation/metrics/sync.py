"""Lip sync from features of lips and sound: confidence, distance and offset as SyncNet's authors compute them.

S_C and S_D of the papers, LSE-C and LSE-D of Wav2Lip. The networks are given; see `judges.syncnet`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SHIFT = 15
EPSILON = 1e-6
"""Added to every difference, as torch's pairwise distance does."""


@dataclass(frozen=True)
class SyncScore:
    """How well lips and sound belong together."""

    confidence: float
    """Median less smallest distance over the shifts: the higher, the better (S_C)."""
    distance: float
    """Smallest mean distance over the shifts: the lower, the better (S_D)."""
    offset_frames: int
    """Shift of the smallest: the matching sound lies this many frames earlier. At +-15 there is no sync."""


def sync_score(lips: np.ndarray, sound: np.ndarray) -> SyncScore:
    """Of features (N, D) of lips and sound, one row per frame; beyond its ends sound is zero."""
    if lips.shape != sound.shape or not len(lips):
        raise ValueError(f"lips {lips.shape} and sound {sound.shape} are equally many features, at least one")
    padded = np.pad(np.asarray(sound, np.float64), ((MAX_SHIFT, MAX_SHIFT), (0, 0)))
    count = len(lips)
    distances = np.array(
        [
            np.linalg.norm(lips - padded[shift : shift + count] + EPSILON, axis=1).mean()
            for shift in range(2 * MAX_SHIFT + 1)
        ]
    )
    best = int(distances.argmin())
    smallest = float(distances[best])
    return SyncScore(float(np.median(distances)) - smallest, smallest, MAX_SHIFT - best)

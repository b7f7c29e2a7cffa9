"""Change from frame to frame: flicker against the truth, and at the borders of chunks."""

from __future__ import annotations

import numpy as np


def change_apart(generated: np.ndarray, truth: np.ndarray) -> float:
    """100 times the mean of |d(g[t], g[t-1]) - d(y[t], y[t-1])| of changes (T - 1,): tLP where d is LPIPS.

    M. Chu et al., "Learning temporal coherence via self-supervision for GAN-based video generation" (TecoGAN), 2020.
    nan for fewer than two frames.
    """
    if not len(generated):
        return float("nan")
    return float(100 * np.abs(np.asarray(generated, np.float64) - truth).mean())


def means_apart(generated: np.ndarray, truth: np.ndarray) -> float:
    """The same between two people, who do not change alike frame by frame: 100 times the difference of the means."""
    if not len(generated):
        return float("nan")
    return float(100 * abs(np.mean(generated) - np.mean(truth)))


def border_ratio(changes: np.ndarray, indices: np.ndarray, chunk_frames: int, delay_frames: int = 0) -> float:
    """Mean change where a chunk begins over mean change inside chunks; 1 where borders do not show.

    changes: (N,), the change to frame `indices[n]` from the one before it. delay_frames: as in StreamSpec; the first
    chunk is shorter by what of it is no multiple of the chunk, and all borders move with it. nan where chunks are one
    frame long, or where there is no border, no inside or no change.
    """
    starts = (np.asarray(indices) + delay_frames) % chunk_frames == 0
    if chunk_frames < 2 or not starts.any() or starts.all():
        return float("nan")
    inside = float(np.mean(np.asarray(changes)[~starts]))
    return float(np.mean(np.asarray(changes)[starts])) / inside if inside > 0 else float("nan")

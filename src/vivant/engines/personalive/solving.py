"""The VAE of personalive-mini, solved from clips on the way to the first stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vivant.engines.personalive.heads import heads_of
from vivant.engines.personalive.motion import bent_portraits
from vivant.engines.personalive.networks.block_vae import BlockVae, solve
from vivant.studio.talking import count_frames, read_frames, read_landmarks
from vivant.training.data.fit import fitted

SOLVED_CLIPS = 48
FRAMES_PER_CLIP = 6
"""Evenly over the clip; the first is the portrait that the others differ from."""


def solve_vae(vae: BlockVae, paths: Sequence[Path], size_px: int) -> None:
    """Components of clips' blocks, in seconds; spreads of the differences that will be drawn."""
    seen, bent = [], []
    for path in paths[:: max(1, len(paths) // SOLVED_CLIPS)]:
        rows = np.linspace(0, count_frames(path) - 1, FRAMES_PER_CLIP).round().astype(int).tolist()
        frames = fitted(torch.from_numpy(read_frames(path, rows)), size_px)
        pictures = frames.movedim(-1, 1).float() / 255
        landmarks, side = read_landmarks(path)
        points = torch.from_numpy(landmarks[rows]) * (2 / side) - 1
        heads = heads_of(points)
        # The portrait's shape under every head, as where it is drawn: what expression moves does not bend it.
        keypoints = replace(heads, canonical=heads.canonical[:1]).keypoints
        bent.append(bent_portraits(pictures[:1], keypoints[:1], keypoints[None, 1:])[0])
        seen.append(pictures[1:])
    solve(vae, torch.cat(seen) * 2 - 1, torch.cat(bent) * 2 - 1)

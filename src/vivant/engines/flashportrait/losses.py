"""Training objective: flow matching, heavier on face and lips (arXiv 2512.16900, section 3.4; weights as in the code).

Letters: B clips, Z latent channels, F latents, T frames, h w cells, H W pixels.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vivant.engines.flashportrait.sampling import NUM_TRAINING_TIMES

Focus = Literal["whole", "face", "lips"]
SHARES: dict[Focus, float] = {"whole": 0.5, "face": 0.2, "lips": 0.3}
"""How often each part of a clip is what counts, as published."""
TEMPORAL_SHARE = 0.25
"""Of the loss: error of differences between neighbouring latents. In the code, not in the paper."""
SMALLEST_PART = 1e-3
"""Of the cells: a part of less does not count as much as its share."""
CLEAN_FROM = 0.25
"""From this time on errors of velocities count as they are, before it as if they were at this time."""
EXPRESSION_DROPOUT = 0.1
"""How often the driver is left out, so that guidance has something to compare with."""


def training_times(
    count: int,
    shift: float,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Times (count,) in (0, 1]: uniform over the table of 1000 times, which is shifted towards the noise."""
    device = generator.device if generator is not None else device
    even = torch.randint(1, NUM_TRAINING_TIMES + 1, (count,), generator=generator, device=device)
    even = even / NUM_TRAINING_TIMES
    return shift * even / (1 + (shift - 1) * even)


def focus_of(draw: float) -> Focus:
    """What counts this time, for a uniform number in [0, 1)."""
    for focus, share in SHARES.items():
        if draw < share:
            return focus
        draw -= share
    return "lips"


def latent_mask(mask: Tensor, num_latents: int, cells: tuple[int, int]) -> Tensor:
    """A mask of the frames (B, T, H, W) in [0, 1], at the size of latents: (B, 1, F, h, w)."""
    size = (num_latents, *cells)
    return F.interpolate(mask.unsqueeze(1).float(), size=size, mode="trilinear", align_corners=False)


def loss_weights(face: Tensor, lips: Tensor, focus: Focus) -> Tensor:
    """1 + face + lips, or one of them alone; all (B, 1, F, h, w)."""
    if focus == "whole":
        return 1 + face + lips
    return face if focus == "face" else lips


def shared_weights(face: Tensor, lips: Tensor) -> Tensor:
    """All of SHARES at once: what counts on average, where each part counts as much as its share whatever its size."""
    parts: dict[Focus, Tensor] = {"whole": 1 + face + lips, "face": face, "lips": lips}
    total = torch.zeros_like(face)
    for focus, part in parts.items():
        total = total + SHARES[focus] * part / part.mean().clamp(min=SMALLEST_PART)
    return total


def clean_share(times: Tensor) -> Tensor:
    """(B,): what errors of velocities count where clean latents are answered, which near time 0 are divided by it."""
    return times / times.clamp(min=CLEAN_FROM)


def flow_matching(predicted: Tensor, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Weighted squared error of velocities (B, Z, F, h, w), and of how they change from latent to latent."""
    terms = {"flow": (1 - TEMPORAL_SHARE) * (weights * (predicted - target).square()).mean()}
    if predicted.shape[2] > 1:
        changes = (predicted - target).diff(dim=2)
        terms["temporal"] = TEMPORAL_SHARE * changes.square().mean()
    return terms

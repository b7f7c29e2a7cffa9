"""R_eyes and R_lip of the compact networks: amounts of the face model's shapes, solved, then corrected a little.

The 81 keypoints have names and the face model says how they move when a lid falls or a jaw drops, so how much of a
shape opens an eye so far is a division. What the generator makes of it is learned: small networks correct the
amounts (Eq. 6), never the points one by one, so that what they ask for stays a face. They act in the head's frame, as
expression, so that turning the head changes nothing. Untrained, R is geometry. S is not here: keypoints on a head
hold no shoulders, so the compact generator does it in its flow (`generator_compact.shoulders_still`, decision 0020).
Legend: B batch, K keypoints, E blendshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config_compact import NUM_POINTS, RetargetingConfig
from vivant.engines.liveportrait.face_shapes import shapes

EYES = (
    ((36, 39), ((37, 41), (38, 40))),
    ((42, 45), ((43, 47), (44, 46))),
)
"""Right eye (image left), left eye: corners, and pairs of upper and lower lid points."""
LIPS = ((points.LIP_CORNER_RIGHT, points.LIP_CORNER_LEFT), ((points.LIP_TOP_INNER, points.LIP_BOTTOM_INNER),))
SHAPES = ("eyeBlink_R", "eyeBlink_L", "eyeWide_R", "eyeWide_L", "jawOpen", "mouthLowerDown", "mouthUpperUp")
"""Blendshapes that retargeting mixes (see face_shapes)."""
BLINK, WIDE, JAW, LIP_SHAPES = slice(0, 2), slice(2, 4), 4, slice(4, 7)
SHUT = -0.07
"""Openness of keypoints whose eyes are drawn shut: the mesh reads 0.23 of 28 still portraits where lids only meet, 0.19
here, and no less beyond (docs/log.md, 26 November)."""
MOST_OPENING = 0.3
"""How much further eyes can be opened than they are: what shut eyes hide is invented, and falls apart beyond."""
WIDEST_EYES = 0.5
WIDEST_LIPS = 0.75
"""Openness is asked for up to 0.8, and wider than this no face opens: beyond three quarters of it less and less."""
REACH = 0.35
"""Of the change in amounts that geometry asks for, learned corrections add or take this much at most."""


def correction_network(num_in: int, hidden: tuple[int, ...], num_out: int) -> nn.Sequential:
    """Linear layers with ReLU between them; the last starts at zero."""
    layers: list[nn.Module] = []
    for a, b in pairwise((num_in, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    last = nn.Linear((num_in, *hidden)[-1], num_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class CompactRetargeting(nn.Module):
    """The two networks. Float32 always: they are a thousandth of the arithmetic and decide where things are."""

    keep_float32 = True

    shapes: Tensor

    def __init__(self, sizes: RetargetingConfig):
        super().__init__()
        self.eyes = correction_network(6, sizes.eye_hidden, 4)
        self.lips = correction_network(3, sizes.lip_hidden, 3)
        # Only lids, only lips and jaw: what is asked of eyes leaves cheeks alone.
        eyes, mouth = torch.zeros(2, NUM_POINTS, 1)
        eyes[[*points.EYE_RIGHT, *points.EYE_LEFT]] = 1
        mouth[list(points.MOUTH_REGION)] = 1
        mixed = [shapes()[name] * (eyes if name.startswith("eye") else mouth) for name in SHAPES]
        self.register_buffer("shapes", torch.stack(mixed), persistent=False)

    def open_eyes(self, shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
        """Points in the head (B, K, 3), openness (B, 2) now and wanted -> Delta_eyes (B, K, 3)."""
        grow = _of_lids(natural(wanted, now, (now + MOST_OPENING).clamp(max=WIDEST_EYES)), now) - now
        blink, wide = (
            torch.stack([_needed(shape, self.shapes[first + e], EYES[e], grow[:, e]) for e in range(2)], 1)
            for first in (BLINK.start, WIDE.start)
        )
        # To close, lids fall; to open, one half is lids that rise, and the other brows and lids of a wide eye.
        blink = torch.where(grow > 0, 0.5 * blink, blink)
        wide = torch.where(grow > 0, 0.5 * wide, torch.zeros_like(wide))
        learned = REACH * torch.tanh(self.eyes(torch.cat([now, wanted, grow], 1)))
        amounts = torch.cat([blink, wide], 1) + (blink.abs() + wide).repeat(1, 2) * learned
        return torch.einsum("be,ekd->bkd", amounts, self.shapes[BLINK.start : WIDE.stop])

    def open_lips(self, shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
        """Points in the head (B, K, 3), openness (B, 1) now and wanted -> Delta_lip (B, K, 3)."""
        grow = natural(wanted, now, torch.full_like(now, WIDEST_LIPS)) - now
        jaw = _needed(shape, self.shapes[JAW], LIPS, grow[:, 0])[:, None]
        learned = REACH * torch.tanh(self.lips(torch.cat([now, wanted, grow], 1)))
        amounts = nn.functional.pad(jaw, (0, 2)) + jaw.abs() * learned
        return torch.einsum("be,ekd->bkd", amounts, self.shapes[LIP_SHAPES])


def natural(wanted: Tensor, now: Tensor, widest: Tensor) -> Tensor:
    """The openness that a face can have: as wanted up to three quarters of `widest`, then ever closer to it.

    Never below what is there now, so that an eye that is wider stays as it is when asked for that.
    """
    knee, room = torch.maximum(now, 0.75 * widest), 0.25 * widest
    beyond = (wanted - knee).clamp(min=0)
    return torch.minimum(wanted, knee) + room * (1 - torch.exp(-beyond / room))


def _of_lids(wanted: Tensor, now: Tensor) -> Tensor:
    """Openness of keypoints that is drawn as `wanted`: the same where nothing changes, SHUT where eyes are to shut."""
    closing = torch.where(wanted < now, 1 - wanted / now.clamp(min=1e-3), torch.zeros_like(now))
    return wanted + SHUT * closing


def _needed(
    shape: Tensor,
    direction: Tensor,
    parts: tuple[tuple[int, int], Sequence[tuple[int, int]]],
    grow: Tensor,
) -> Tensor:
    """(B,): how much of a blendshape `direction` (K, 3) opens by `grow` (B,) of the width, gaps taken with sign."""
    (a, b), pairs = parts
    width = (shape[:, a] - shape[:, b])[:, :2].norm(dim=-1)
    opens = torch.stack([direction[lower, 1] - direction[upper, 1] for upper, lower in pairs]).mean()
    return grow * width / opens

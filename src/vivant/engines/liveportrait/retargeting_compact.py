"""S, R_eyes and R_lip of the compact networks: what geometry says, plus what small networks learn on top.

The 81 keypoints have names, so closing an eye is known to the millimetre: move the upper lid to the lower one. What
is not known is what the generator makes of it, and that is what stage II teaches. Eyes and lips are corrected in
the head's frame, as expression, so that turning the head changes nothing and the generator's codes agree with the
keypoints; stitching works on keypoints in the crop, as in the paper. Untrained, S changes nothing and R is geometry.
Legend: B batch, K keypoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vivant.engines.liveportrait import points
from vivant.engines.liveportrait.config_compact import NUM_POINTS, RetargetingConfig

UPPER_LID_SHARE = 0.85
"""Of a blink's travel; the lower lid does the rest."""
EYES = (
    ((36, 39), ((37, 41), (38, 40))),
    ((42, 45), ((43, 47), (44, 46))),
)
"""Right eye (image left), left eye: corners, and pairs of upper and lower lid points."""
LOWER_LIP = {65: 1.0, 66: 1.0, 67: 1.0, 55: 0.6, 56: 1.0, 57: 1.0, 58: 1.0, 59: 0.6}
JAW = {5: 0.3, 6: 0.6, 7: 0.9, 8: 1.0, 9: 0.9, 10: 0.6, 11: 0.3}
"""How much of the lower lip's travel each point takes part in."""
OFFSET_UNIT = 0.1
"""Stitching offsets are this large where the network says 1: a twentieth of the crop."""
LEARNED_REACH = 0.04
"""Learned offsets of eyes and lips stay below this, 4 mm: free ones learned to fool the reader and tore mouths."""


def offset_network(num_in: int, hidden: tuple[int, ...], num_out: int) -> nn.Sequential:
    """Linear layers with ReLU between them; the last starts at zero."""
    layers: list[nn.Module] = []
    for a, b in pairwise((num_in, *hidden)):
        layers += [nn.Linear(a, b), nn.ReLU()]
    last = nn.Linear((num_in, *hidden)[-1], num_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class CompactRetargeting(nn.Module):
    """The three networks. Float32 always: they are a thousandth of the arithmetic and decide where things are."""

    keep_float32 = True

    def __init__(self, sizes: RetargetingConfig):
        super().__init__()
        n = 3 * NUM_POINTS
        self.eye_points = [*points.EYE_RIGHT, *points.EYE_LEFT]
        self.lip_points = list(points.MOUTH_REGION)
        self.stitching = offset_network(2 * n, sizes.stitching_hidden, n + 2)
        self.eyes = offset_network(n + 4, sizes.eye_hidden, 3 * len(self.eye_points))
        self.lips = offset_network(n + 2, sizes.lip_hidden, 3 * len(self.lip_points))

    def stitch(self, source: Tensor, driven: Tensor) -> Tensor:
        """x_s and x_d (B, K, 3), crop units -> Delta_st (B, K, 3)."""
        out = OFFSET_UNIT * self.stitching(torch.cat([source.flatten(1), (driven - source).flatten(1)], 1))
        return out[:, :-2].view_as(driven) + nn.functional.pad(out[:, None, -2:], (0, 1))

    def open_eyes(self, shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
        """Points in the head (B, K, 3), openness (B, 2) now and wanted -> Delta_eyes (B, K, 3)."""
        known = _open_eyes(shape, now, wanted)
        learned = self.eyes(torch.cat([shape.flatten(1), now, wanted - now], 1)).view(len(shape), -1, 3)
        # Times the change wanted: what is right already stays exactly as it is.
        change = (wanted - now).abs().clamp(max=0.2) * 5
        each = change.repeat_interleave(len(self.eye_points) // 2, 1)[..., None]
        return _added(known, self.eye_points, LEARNED_REACH * each * learned.tanh())

    def open_lips(self, shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
        """Points in the head (B, K, 3), openness (B, 1) now and wanted -> Delta_lip (B, K, 3)."""
        known = _open_lips(shape, now, wanted)
        learned = self.lips(torch.cat([shape.flatten(1), now, wanted - now], 1)).view(len(shape), -1, 3)
        change = (wanted - now).abs().clamp(max=0.2) * 5
        return _added(known, self.lip_points, LEARNED_REACH * change[..., None] * learned.tanh())


def _added(offset: Tensor, indices: list[int], more: Tensor) -> Tensor:
    return offset.index_add(1, torch.tensor(indices, device=offset.device), more)


def _open_eyes(shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
    """Lids moved along the line between them, so that the gap grows by (wanted - now) times the eye's width."""
    offset = torch.zeros_like(shape)
    for eye, ((inner, outer), pairs) in enumerate(EYES):
        width = (shape[:, inner] - shape[:, outer])[:, :2].norm(dim=-1)
        grow = ((wanted - now)[:, eye] * width)[:, None]
        # Sideways lids follow the head's vertical; a closed eye has no other direction to open in.
        down = shape.new_tensor([0.0, 1.0, 0.0])
        for upper, lower in pairs:
            offset[:, upper] = -UPPER_LID_SHARE * grow * down
            offset[:, lower] = (1 - UPPER_LID_SHARE) * grow * down
    return offset


def _open_lips(shape: Tensor, now: Tensor, wanted: Tensor) -> Tensor:
    """Lower lip and jaw moved down, so that the gap grows by (wanted - now) times the mouth's width."""
    a, b = points.LIP_CORNER_RIGHT, points.LIP_CORNER_LEFT
    width = (shape[:, a] - shape[:, b])[:, :2].norm(dim=-1)
    grow = (wanted - now)[:, 0] * width
    offset = torch.zeros_like(shape)
    for point, part in (LOWER_LIP | JAW).items():
        offset[:, point, 1] = part * grow
    return offset

"""S: stitching and retargeting, three small networks on keypoints (arXiv 2407.03168, section 3.3).

Legend: B batch, K keypoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from vivant.engines.liveportrait.config import PublishedConfig


class OffsetNetwork(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, widths: tuple[int, ...]):
        super().__init__()
        layers: list[nn.Module] = []
        for num_in, num_out in pairwise(widths):
            layers += [nn.Linear(num_in, num_out), nn.ReLU()]
        self.mlp = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class StitchingRetargeting(nn.Module):
    """The three networks under their published names."""

    def __init__(self, config: PublishedConfig, num_keypoints: int):
        super().__init__()
        n = 3 * num_keypoints
        self.retarget_shoulder = OffsetNetwork((2 * n, *config.stitching_hidden, n + 2))
        """Stitching: x_s and x_d (B, 6K) -> offset of every keypoint (3K) and of all in x and y (2)."""
        self.retarget_mouth = OffsetNetwork((n + 2, *config.lip_hidden, n))
        """Lips: x_s, source ratio, wanted ratio (B, 3K + 2) -> offsets (B, 3K)."""
        self.retarget_eye = OffsetNetwork((n + 3, *config.eye_hidden, n))
        """Eyes: x_s, left and right source ratio, wanted ratio (B, 3K + 3) -> offsets (B, 3K)."""

    def stitch(self, source: Tensor, driven: Tensor) -> Tensor:
        """x_s (1 or B, K, 3) and x_d (B, K, 3) -> x_d + Delta_st; float32."""
        source = source.expand_as(driven).flatten(1)
        offset = self.retarget_shoulder(torch.cat([source, driven.flatten(1)], 1))
        shift = torch.nn.functional.pad(offset[:, None, -2:], (0, 1))
        return driven + offset[:, :-2].view_as(driven) + shift

    def open_eyes(self, source: Tensor, source_open: Tensor, wanted: Tensor) -> Tensor:
        """x_s (B, K, 3), its eyes (B, 2), wanted (B, 1) -> Delta_eyes (B, K, 3)."""
        return self.retarget_eye(torch.cat([source.flatten(1), source_open, wanted], 1)).view_as(source)

    def open_lips(self, source: Tensor, source_open: Tensor, wanted: Tensor) -> Tensor:
        """x_s (B, K, 3), its lips (B, 1), wanted (B, 1) -> Delta_lip (B, K, 3)."""
        return self.retarget_mouth(torch.cat([source.flatten(1), source_open, wanted], 1)).view_as(source)

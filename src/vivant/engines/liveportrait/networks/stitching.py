"""S: stitching and retargeting, three small networks on keypoints (arXiv 2407.03168, section 3.3).

Present so that the published weights load whole; the engine does not use them yet. Legend: B batch, K keypoints.
"""

from __future__ import annotations

from itertools import pairwise

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

"""For tests of animations: the smallest engine, soft pictures, and a tracker that sees what it is told."""

from __future__ import annotations

import numpy as np
import torch

from vivant.engine import Engine
from vivant.engines.liveportrait.engine import LivePortrait
from vivant.face.points import Landmarks
from vivant.face.track import TrackedFace


def tiny_engine() -> Engine:
    torch.manual_seed(0)
    config = LivePortrait.tiny_configs()["compact"]
    networks = LivePortrait.build_networks(config)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return LivePortrait(config, networks)


def pictures(count: int, side: int = 96, seed: int = 0) -> list[np.ndarray]:
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return list((smooth * 255).byte().permute(0, 2, 3, 1).contiguous().numpy())


class FakeTracker:
    """Sees a face in the middle, except in the frames that are told."""

    blind: frozenset[int] = frozenset()
    cuts: frozenset[int] = frozenset()

    def __init__(self, choice: str) -> None:
        self.index = -1

    def update(self, image: np.ndarray, *, irises: bool = True) -> TrackedFace | None:
        self.index += 1
        if self.index in self.blind:
            return None
        points = np.random.default_rng(0).uniform(30, 66, (468, 3)).astype(np.float32)
        return TrackedFace(Landmarks(points, 1.0), found_anew=False, cut=self.index in self.cuts)

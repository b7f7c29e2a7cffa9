"""The smallest engine, with weights that make every input matter."""

from __future__ import annotations

import torch

from vivant.engines.flashportrait.config import tiny
from vivant.engines.flashportrait.engine import FlashPortrait
from vivant.engines.flashportrait.motion import Motion


def tiny_engine() -> FlashPortrait:
    torch.manual_seed(0)
    networks = FlashPortrait.build_networks(tiny())
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        networks.prompts.normal_()
    return FlashPortrait(tiny(), networks)


def motions(engine: FlashPortrait, count: int, seed: int = 2) -> Motion:
    """What a driver might do in so many frames."""
    return Motion(
        torch.randn(count, engine.config.num_features, generator=torch.Generator().manual_seed(seed))
    )

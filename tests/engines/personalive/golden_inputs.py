"""Filling published networks from key names, and comparing with the samples that the golden file keeps."""

from __future__ import annotations

from typing import Any

import torch
from make_personalive_golden import SEEDED, sampled
from seeded_weights import seeded_input, seeded_state_dict
from torch import Tensor, nn

from vivant.engines.personalive.networks.layers import TemporalCode

SHAPES = {
    "denoise.motion": (1, 16, 32, 16),
    "denoise.pose_fea": (1, 320, 16, 8, 16),
    "denoise.sample": (1, 4, 16, 8, 16),
    "module.in": (1, 320, 16, 4, 6),
    "motion_encoder.in": (1, 3, 2, 224, 224),
    "motion_extractor.in": (3, 3, 256, 256),
    "pose_guider.in": (1, 3, 3, 64, 128),
}


def given(name: str) -> Tensor:
    """An input that the golden file leaves out."""
    seed, low, high = SEEDED[name]
    return seeded_input(seed, SHAPES[name], low, high)


def fill(module: nn.Module, prefix: str = "") -> None:
    """Weights made from the published names: `prefix` is where the module hangs. Fixed codes keep their formula."""
    state = module.state_dict()
    codes = {name for name in state if name.split(".")[-1] == "pe"}
    seeded = seeded_state_dict({prefix + name: like for name, like in state.items() if name not in codes})
    module.load_state_dict(
        {name.removeprefix(prefix): value for name, value in seeded.items()}, strict=False, assign=True
    )
    for part in module.modules():
        if isinstance(part, TemporalCode) and part.pe.is_meta:
            part.pe = TemporalCode(part.pe.shape[2], part.pe.shape[1]).pe
    assert not any(tensor.is_meta for tensor in module.state_dict().values())


def folded(x: Tensor) -> Tensor:
    """The official layout (B, C, F, h, w) -> ours, (B F, C, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def official(x: Tensor, num_frames: int) -> Tensor:
    """Ours (B F, C, h, w) -> the official layout."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def assert_close(name: str, ours: Tensor, golden: dict[str, Tensor], tolerance: float) -> None:
    """Largest absolute difference over the entries that are kept."""
    torch.testing.assert_close(sampled(name, ours.float()), golden[name], atol=tolerance, rtol=1e-4)


def outputs_of(module: nn.Module, names: list[str], *inputs: Any) -> dict[str, Tensor]:
    """Run a network and return what its submodules gave, by name; "" is the network itself."""
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda _module, _inputs, output, name=name: seen.__setitem__(name, output))
        for name, part in module.named_modules()
        if name in names
    ]
    with torch.inference_mode():
        seen[""] = module(*inputs)
    for hook in hooks:
        hook.remove()
    return seen

"""Golden tensors of the official code, and the published networks with weights made from key names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vivant.engines.flashportrait.config_networks import TransformerConfig, published_portrait_encoder
from vivant.engines.flashportrait.networks.portrait_encoder import PortraitEncoder
from vivant.engines.flashportrait.networks.transformer import PortraitTransformer

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "assets" / "flashportrait_golden.safetensors"
for folder in (HERE.parents[1], HERE):
    sys.path.insert(0, str(folder))

from flash_golden import seeded_file, transformer_names  # noqa: E402
from seeded_weights import seeded_state_dict  # noqa: E402


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN)


@pytest.fixture(scope="session")
def metadata() -> dict[str, str]:
    with safe_open(GOLDEN, framework="pt") as file:
        return file.metadata()


@pytest.fixture(scope="session")
def manifest(metadata: dict[str, str]) -> dict[str, dict[str, list[int]]]:
    """Names and shapes in the published files."""
    return json.loads(metadata["manifest"])


@pytest.fixture(scope="session")
def portrait_encoder(manifest: dict[str, dict[str, list[int]]]) -> PortraitEncoder:
    """The published size."""
    with torch.device("meta"):
        encoder = PortraitEncoder(published_portrait_encoder())
    encoder.load_state_dict(seeded_file(manifest["portrait_encoder.pt"]), strict=True, assign=True)
    return encoder.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def transformer() -> PortraitTransformer:
    """The small transformer of the golden run: three blocks of the published kind."""
    network = PortraitTransformer(
        TransformerConfig(
            num_layers=3,
            num_heads=2,
            head_channels=128,
            feed_forward_channels=512,
            latent_channels=16,
            text_channels=128,
            num_text_tokens=512,
            image_channels=1280,
            expression_channels=2048,
            frequency_channels=256,
            answers="velocity",
            motion_tokens=None,
            learned_places=None,
        )
    )
    shapes = {theirs: network.state_dict()[ours] for ours, theirs in transformer_names(network).items()}
    seeded = seeded_state_dict(shapes)
    network.load_state_dict({ours: seeded[theirs] for ours, theirs in transformer_names(network).items()})
    return network.eval().requires_grad_(False)

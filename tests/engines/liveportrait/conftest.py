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

from vivant.engines.liveportrait.config import published
from vivant.engines.liveportrait.convert import PREFIXES
from vivant.engines.liveportrait.networks import PublishedNetworks

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = TESTS / "assets" / "liveportrait_golden.safetensors"
sys.path.insert(0, str(TESTS))

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
def published_state(metadata: dict[str, str]) -> dict[str, dict[str, Tensor]]:
    """Seeded tensors of each published file, under the published names."""
    with torch.device("meta"):
        state = PublishedNetworks(published()).state_dict()
    gain = float(metadata["gain"])
    return {
        name: seeded_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}, gain
        )
        for name, prefix in PREFIXES.items()
    }


def build(state: dict[str, dict[str, Tensor]]) -> PublishedNetworks:
    with torch.device("meta"):
        networks = PublishedNetworks(published())
    tensors = {PREFIXES[name] + key: value for name, part in state.items() for key, value in part.items()}
    networks.load_state_dict(tensors, strict=True, assign=True)
    return networks.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def plain(published_state: dict[str, dict[str, Tensor]]) -> PublishedNetworks:
    """As published."""
    return build(published_state)


@pytest.fixture(scope="session")
def folded(published_state: dict[str, dict[str, Tensor]]) -> PublishedNetworks:
    networks = build(
        {name: {key: value.clone() for key, value in part.items()} for name, part in published_state.items()}
    )
    networks.fold()
    return networks

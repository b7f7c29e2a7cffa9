"""Golden tensors of the official code, and parts of the published networks with weights made from key names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vivant.engines.personalive.config import published
from vivant.engines.personalive.networks.unet import Denoiser, ReferenceUnet

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "assets" / "personalive_golden.safetensors"
for folder in (HERE.parents[1], HERE.parents[1] / "assets"):
    sys.path.insert(0, str(folder))


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
def reference_unet() -> ReferenceUnet:
    """R without memory: fill what is needed."""
    with torch.device("meta"):
        return ReferenceUnet(published().unet).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def denoiser() -> Denoiser:
    """D without memory: fill what is needed."""
    with torch.device("meta"):
        return Denoiser(published().unet).eval().requires_grad_(False)

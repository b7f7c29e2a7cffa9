"""One checkpoint of two that learned at the same time: the VAE of one and the face features of the other.

python benchmarks/gpu/join_flashportrait.py VAE_EXPORT FACE_EXPORT OUT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vivant import checkpoint
from vivant.engines.flashportrait.config import mini
from vivant.engines.flashportrait.engine import FlashPortrait


def join(vae: Path, face: Path, out: Path) -> None:
    """Write the checkpoint `out`, which `vivant train flashportrait/mini_flow_gpu` takes as --init."""
    config = mini()
    whole: Any = checkpoint.load_same(vae, config, FlashPortrait.build_networks, "join")
    other: Any = checkpoint.load_same(face, config, FlashPortrait.build_networks, "join")
    whole.face_features = other.face_features
    checkpoint.save(out, "flashportrait", config, whole)


if __name__ == "__main__":
    join(*(Path(argument) for argument in sys.argv[1:4]))

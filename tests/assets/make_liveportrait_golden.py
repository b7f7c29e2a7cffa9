"""How liveportrait_golden.safetensors was trimmed from the full set of golden tensors.

    python tests/assets/make_liveportrait_golden.py <full set>.safetensors <manifest of published keys>.json

The full set holds inputs, intermediates and outputs of the official LivePortrait code (commit 1986663, MIT), run in
evaluation mode, float32, on the CPU with weights made from key names (see tests/seeded_weights.py). No released
weights are involved. Kept here: what the tests of the networks and of the motion algebra compare with. Tensors of a
batch of two keep the first entry; large ones keep a strided sample. `manifest` in the metadata lists names and shapes
of the published checkpoints: it is what "key-compatible" means.
"""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

TARGET = Path(__file__).with_name("liveportrait_golden.safetensors")
# Cropping and pasting have their own file (face_golden).
LEFT_OUT = re.compile(
    r"pure\.(crop|rect|landmarkcrop|drive|paste|resize|parse_output|lmk|combined|eye_ratio|lip_ratio)|.*\.stats$"
)
SAMPLED = {"F.128.out": 8, "W.128.compressed_feature": 8}
FIRST_ENTRY = ("W.128.out", "W.128.occlusion_map", "W.128.deformation", "G.128.out", "in.image_128")


def strided(tensor: Tensor, per_axis: int) -> Tensor:
    """v[:, ::a, ::b, ...] with about `per_axis` entries kept on every axis but the first."""
    steps = (slice(None), *(slice(None, None, math.ceil(size / per_axis)) for size in tensor.shape[1:]))
    return tensor[steps].contiguous()


def trim(name: str, tensor: Tensor) -> Tensor:
    if name in SAMPLED:
        return strided(tensor[:1], SAMPLED[name])
    if name.endswith(".sample") or name in FIRST_ENTRY:
        return tensor[:1].contiguous()
    return tensor


def main() -> None:
    source, manifest = map(Path, sys.argv[1:])
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys() if not LEFT_OUT.match(name)}  # noqa: SIM118
    keep = ("official_commit", "gain", "seeded_digests", "spectral_sigma_order", "torch")
    metadata = {name: metadata[name] for name in keep}
    shapes = {
        file: {key: spec["shape"] for key, spec in keys.items()}
        for file, keys in json.loads(manifest.read_text()).items()
    }
    metadata["manifest"] = json.dumps(shapes)
    tensors = {name: trim(name, tensor) for name, tensor in tensors.items()}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    save_file(tensors, TARGET, metadata)
    print(f"{TARGET.name}: {len(tensors)} tensors, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

"""How personalive_golden.safetensors was trimmed from the full set of golden tensors.

    python tests/assets/make_personalive_golden.py <full set>.safetensors <manifest of published keys>.json

The full set holds inputs, intermediates and outputs of the official PersonaLive code (commit 32f401d), run in
evaluation mode, float32, on the CPU with weights made from key names (see tests/seeded_weights.py). No released
weights are involved. Inputs are left out where `seeded_weights.seeded_input` makes them again (checked here); large
tensors keep a strided sample, the drawings on 512 px a hash. `manifest` in the metadata lists names and shapes of the
published files: it is what "key-compatible" means.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from seeded_weights import seeded_input

TARGET = Path(__file__).with_name("personalive_golden.safetensors")

# Made again by seeded_input(name, shape, low, high).
SEEDED = {
    "denoise.motion": ("pl.motion", -1.0, 1.0),
    "denoise.pose_fea": ("pl.pose_fea", -0.5, 0.5),
    "denoise.sample": ("pl.window", -2.0, 2.0),
    "module.in": ("pl.mod_in", -1.0, 1.0),
    "motion_encoder.in": ("pl.motion_face", -1.0, 1.0),
    "motion_extractor.in": ("pl.kp_img", 0.0, 1.0),
    "pose_guider.in": ("pl.pose_img", 0.0, 1.0),
}
# v[start:stop:step] per axis, from the front; axes not named are kept whole.
SAMPLES = {
    "denoise.mid.down0": (1, 4, 3),
    "denoise.mid.up": (1, 4, 3),
    "denoise.mid.down3": (1, 16),
    "denoise.mid.mid": (1, 16),
    "denoise.mid.time_emb": (4, 4),
    "module.motion": (1, 16),
    "module.temporal": (1, 16),
    "reference_unet.bank": (1, 4, 16),
    "pose_guider.out": (1, 8),
}


def sampled(name: str, tensor: Tensor) -> Tensor:
    """The strided sample of a tensor; tests take the same of ours."""
    for prefix, steps in SAMPLES.items():
        if name.startswith(prefix):
            return tensor[tuple(slice(None, None, step) for step in steps)].contiguous()
    return tensor


def main() -> None:
    source, manifest = map(Path, sys.argv[1:])
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, (seed, low, high) in SEEDED.items():
        given = tensors.pop(name)
        assert torch.equal(seeded_input(seed, given.shape, low, high), given), name
    canvas = tensors.pop("draw.canvas_512.uint8")
    metadata["canvas_512_sha256"] = hashlib.sha256(canvas.numpy().tobytes()).hexdigest()
    small = tensors["draw.canvas_64x128"]
    tensors["draw.canvas_64x128"] = (small * 255).round().to(torch.uint8)
    shapes = {
        file: {key: spec["shape"] for key, spec in keys.items()}
        for file, keys in json.loads(manifest.read_text()).items()
    }
    metadata["manifest"] = json.dumps(shapes)
    kept = {name: sampled(name, tensor) for name, tensor in tensors.items()}
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())
    save_file(kept, TARGET, metadata)
    print(f"{TARGET.name}: {len(kept)} tensors, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

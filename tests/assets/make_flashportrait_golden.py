"""How flashportrait_golden.safetensors was trimmed from the full set of golden tensors.

    python tests/assets/make_flashportrait_golden.py <full set>.safetensors <manifest of published keys>.json

The full set holds inputs, intermediates and outputs of the official FlashPortrait code (commit c72d9de), run
in evaluation mode, float32, on the CPU with weights made from key names (see tests/seeded_weights.py). No released
weights are involved. Large tensors keep a strided sample. Left out: schedulers that we do not have (UniPC, DPM++), the
padded sequence (a defect of the official multi-GPU path), and the published face finder, whose networks we do not use.
`manifest` in the metadata lists names and shapes of the published checkpoints: it is what "key-compatible" means.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

TARGET = Path(__file__).with_name("flashportrait_golden.safetensors")
LEFT_OUT = re.compile(r"sched\.(unipc8|dpmpp8)\..*|dit\.out\.pad56|face\.(det|smooth|warpmat|pts).*")
# Every how manieth entry of each axis is kept.
SAMPLED = {
    "pe.out.tokens": (1, 1, 31),
    "nfeb.in.context": (1, 7, 5),
    "face.warp224": (3, 3, 1),
    "tae.out": (1, 1, 1, 2, 2),
}


def main() -> None:
    source, manifest = map(Path, sys.argv[1:])
    with safe_open(source, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys() if not LEFT_OUT.fullmatch(name)}  # noqa: SIM118
    for name, steps in SAMPLED.items():
        tensors[name] = tensors[name][tuple(slice(None, None, step) for step in steps)]
    shapes = {
        file.split(" ")[0]: {key: spec["shape"] for key, spec in keys.items()}
        for file, keys in json.loads(manifest.read_text()).items()
    }
    metadata["manifest"] = json.dumps(shapes)
    assert all(torch.isfinite(tensor.float()).all() for tensor in tensors.values())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, TARGET, metadata)
    print(f"{TARGET.name}: {len(tensors)} tensors, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

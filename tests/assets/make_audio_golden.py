"""How audio_golden.safetensors was trimmed from the full set of golden tensors.

    python tests/assets/make_audio_golden.py <full set>.safetensors <manifest of published keys>.json

The full set holds inputs and outputs of the official Wav2Lip code (commit 5c90fa9; mel front end and lip-sync expert)
and of joonson/syncnet_python (6efbb1c), run in evaluation mode, float32, on the CPU with weights made from key names
(see tests/seeded_weights.py). No released weights are involved. `manifest` in the metadata lists names and shapes of
the published checkpoint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

TARGET = Path(__file__).with_name("audio_golden.safetensors")
SYNC_TARGET = Path(__file__).with_name("sync_golden.safetensors")
KEPT = ("signal.pcm16", "mel.out", "expert.mel_in", "expert.audio_emb", "expert.audio_raw")
FIRST_ENTRY = ("expert.face_in", "expert.face_emb")
EXPERT = "wav2lip_expert (SyncNet_color)"
SYNCNET = "syncnet_v2"
NUM_LIPS = 2
"""Windows of five frames of the whole run that are kept."""


def main(full: Path, keys: Path) -> None:
    """Write the trimmed set."""
    tensors = load_file(full)
    kept = {name: tensors[name].contiguous() for name in KEPT}
    kept |= {name: tensors[name][:1].contiguous() for name in FIRST_ENTRY}
    save_file(kept, TARGET, {"manifest": _manifest(keys, EXPERT)})
    save_file(_sync(tensors), SYNC_TARGET, {"manifest": _manifest(keys, SYNCNET)})


def _manifest(keys: Path, name: str) -> str:
    return json.dumps({key: entry["shape"] for key, entry in json.loads(keys.read_text())[name].items()})


def _sync(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """MFCC, both towers on the beginning of the official run, and four cases of offset, confidence and distance."""
    kept = {name: tensors[name] for name in ("mfcc.out", "syncnet.aud_in", "syncnet.aud_out")}
    kept["frames28_bgr"] = tensors["syncnet.e2e.frames28_bgr"][: NUM_LIPS + 4]
    kept["lips"] = tensors["syncnet.e2e.lip"][:NUM_LIPS]
    for case in ("plus3", "minus4", "tiny", "unsynced"):
        for part in ("lip", "aud", "offset", "confidence", "min_dist"):
            kept[f"{case}.{part}"] = tensors[f"offset.{case}.{part}"]
    return {name: tensor.contiguous() for name, tensor in kept.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

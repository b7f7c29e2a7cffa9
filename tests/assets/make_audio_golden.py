"""How audio_golden.safetensors was trimmed from the full set of golden tensors.

    python tests/assets/make_audio_golden.py <full set>.safetensors <manifest of published keys>.json

The full set holds inputs and outputs of the official Wav2Lip code (commit 5c90fa9; mel front end and lip-sync expert),
run in evaluation mode, float32, on the CPU with weights made from key names (see tests/seeded_weights.py). No released
weights are involved. `manifest` in the metadata lists names and shapes of the published checkpoint.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file

TARGET = Path(__file__).with_name("audio_golden.safetensors")
KEPT = ("signal.pcm16", "mel.out", "expert.mel_in", "expert.audio_emb", "expert.audio_raw")
FIRST_ENTRY = ("expert.face_in", "expert.face_emb")
EXPERT = "wav2lip_expert (SyncNet_color)"


def main(full: Path, keys: Path) -> None:
    """Write the trimmed set."""
    tensors = load_file(full)
    kept = {name: tensors[name].contiguous() for name in KEPT}
    kept |= {name: tensors[name][:1].contiguous() for name in FIRST_ENTRY}
    manifest = {name: entry["shape"] for name, entry in json.loads(keys.read_text())[EXPERT].items()}
    save_file(kept, TARGET, {"manifest": json.dumps(manifest)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

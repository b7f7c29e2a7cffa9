#!/usr/bin/env bash
# refvae-mini from nothing: talking clips, VAE on 1, 5, 17 and 41 frames, lip-sync expert, generator, decoder, four-step student. Run it again to go on.
# Usage: train_refvae.sh DATA_FOLDER RUN_FOLDER [IDENTITIES]
set -euo pipefail
data=$1
runs=$2
identities=${3:-1500}
vivant studio talk "$data" --identities "0-$((identities - 1))" --seconds 6 --size 144 --turn-degrees 5 --view-cm 26 --workers "$(nproc)"
init=()
for stage in vae_1 vae_5 vae_17 vae_41 sync generator decoder student; do
    vivant train "refvae/mini_$stage" --data "$data" --out "$runs/$stage" --device cuda "${init[@]}"
    init=(--init "$runs/$stage/export")
done
echo "look at $runs/vae_41/pictures.png; speak with --preset $runs/decoder/export"
echo "or in four steps: --preset $runs/student/export --num-steps 4 --audio-guidance 1 --reference-guidance 1"
echo "measure: python benchmarks/refvae_voice.py --data $data --preset $runs/decoder/export (--guidance, --minute)"

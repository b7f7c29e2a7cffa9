#!/usr/bin/env bash
# flashportrait-mini from nothing: talking clips, VAE, face features, flow matching. Run it again to go on.
# Usage: train_flashportrait.sh DATA_FOLDER RUN_FOLDER [IDENTITIES]
set -euo pipefail
data=$1
runs=$2
identities=${3:-1500}
vivant studio talk "$data" --identities "0-$((identities - 1))" --size 128 --workers "$(nproc)"
init=()
for stage in vae face flow; do
    vivant train "flashportrait/mini_$stage" --data "$data" --out "$runs/$stage" --device cuda "${init[@]}"
    init=(--init "$runs/$stage/export")
done
echo "look at $runs/flow/pictures.png; animate with --preset $runs/flow/export"

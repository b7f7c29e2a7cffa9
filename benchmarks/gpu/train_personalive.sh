#!/usr/bin/env bash
# personalive-mini from nothing: studio data, VAE, pose network, then the three stages. Run it again to go on.
# Usage: train_personalive.sh DATA_FOLDER RUN_FOLDER [IDENTITIES]
set -euo pipefail
data=$1
runs=$2
identities=${3:-1500}
vivant studio render "$data" --identities "0-$((identities - 1))" --workers "$(nproc)"
vivant studio talk "$data" --identities "0-$((identities - 1))" --size 128 --workers "$(nproc)"
init=()
for stage in vae pose stage1 stage2 stage3; do
    vivant train "personalive/mini_$stage" --data "$data" --out "$runs/$stage" --device cuda "${init[@]}"
    init=(--init "$runs/$stage/export")
done
echo "look at $runs/stage3/pictures.png; animate with --preset $runs/stage3/export"

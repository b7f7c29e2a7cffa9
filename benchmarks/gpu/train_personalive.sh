#!/usr/bin/env bash
# personalive-mini from nothing in MINUTES: VAE and pose network side by side, then the three stages. Run it again to go on.
# Usage: train_personalive.sh DATA RUNS [MINUTES]; DATA is of render_people.sh.
set -euo pipefail
data=$1
runs=$2
minutes=${3:-17}
share() { awk "BEGIN { print ${minutes} * $1 }"; }
command -v vivant >/dev/null || vivant() { python3 -m vivant "$@"; }
people=(--data "$data/people" --device cuda)
vivant train personalive/mini_vae_gpu --out "$runs/vae" "${people[@]}" --fit-minutes "$(share 0.18)" &
vivant train personalive/mini_pose_gpu --out "$runs/pose" "${people[@]}" --fit-minutes "$(share 0.14)" &
wait -n
wait -n
python3 -m vivant.engines.personalive.merge "$runs/vae/export" "$runs/pose/export" -o "$runs/start"
vivant train personalive/mini_stage1_gpu --out "$runs/stage1" "${people[@]}" --fit-minutes "$(share 0.38)" \
    --init "$runs/start"
vivant train personalive/mini_stage2_gpu --out "$runs/stage2" "${people[@]}" --fit-minutes "$(share 0.18)" \
    --init "$runs/stage1/export"
vivant train personalive/mini_stage3_gpu --out "$runs/stage3" --data "$data/clips" --device cuda \
    --fit-minutes "$(share 0.16)" --init "$runs/stage2/export"
echo "look at $runs/stage3/pictures.png; animate with --preset $runs/stage3/export"

#!/usr/bin/env bash
# flashportrait-mini from nothing in MINUTES: VAE and face features side by side, then flow matching. Run it again to go on.
# Usage: train_flashportrait.sh DATA RUNS [MINUTES]; DATA is of render_people.sh.
set -euo pipefail
data=$1/clips
runs=$2
share() { awk "BEGIN { print ${minutes} * $1 }"; }
minutes=${3:-17}
command -v vivant >/dev/null || vivant() { python3 -m vivant "$@"; }
vivant train flashportrait/mini_vae_gpu --data "$data" --out "$runs/vae" --device cuda --fit-minutes "$(share 0.29)" &
vivant train flashportrait/mini_face_gpu --data "$data" --out "$runs/face" --device cuda --fit-minutes "$(share 0.2)" &
wait -n
wait -n
python3 "$(dirname "$0")/join_flashportrait.py" "$runs/vae/export" "$runs/face/export" "$runs/joined"
vivant train flashportrait/mini_flow_gpu --data "$data" --out "$runs/flow" --device cuda --fit-minutes "$(share 0.66)" \
    --init "$runs/joined"
echo "look at $runs/flow/pictures.png; animate with --preset $runs/flow/export"

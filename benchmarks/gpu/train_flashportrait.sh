#!/usr/bin/env bash
# flashportrait-mini from nothing in MINUTES: face features, flow matching, decoder. Run it again to go on.
# Usage: train_flashportrait.sh DATA RUNS [MINUTES]; DATA is of render_people.sh.
set -euo pipefail
data=$1/turning
runs=$2
share() { awk "BEGIN { print ${minutes} * $1 }"; }
minutes=${3:-17}
command -v vivant >/dev/null || vivant() { python3 -m vivant "$@"; }
vivant train flashportrait/mini_face_gpu --data "$data" --out "$runs/face" --device cuda --fit-minutes "$(share 0.25)"
vivant train flashportrait/mini_flow_gpu --data "$data" --out "$runs/flow" --device cuda --fit-minutes "$(share 0.55)" \
    --init "$runs/face/export"
vivant train flashportrait/mini_decoder_gpu --data "$data" --out "$runs/decoder" --device cuda \
    --fit-minutes "$(share 0.15)" --init "$runs/flow/export"
echo "look at $runs/decoder/pictures.png; animate with --preset $runs/decoder/export"

#!/usr/bin/env bash
# personalive-mini from nothing in about MINUTES: what sees heads and faces, then the three stages; what starting takes is
# counted in. Each goes on from the export of the one before. Ends with a snapshot and an export when it is told to stop;
# run it again to go on.
# Usage: train_personalive.sh DATA RUNS [MINUTES]; DATA holds talking clips (`vivant studio talk`).
set -euo pipefail
data=$1
runs=$2
minutes=${3:-9}
program=("$(type -P vivant || true)")
[ -n "${program[0]}" ] || program=(python3 -m vivant)
running=
trap 'kill -TERM "$running" 2>/dev/null; wait "$running"; exit 143' TERM INT
vivant() {
    "${program[@]}" "$@" --data "$data" --device "${DEVICE:-cuda}" &
    running=$!
    wait "$running"
}
share() { awk "BEGIN { print ${minutes} * $1 }"; }
vivant train personalive/mini_start_gpu --out "$runs/start" --fit-minutes "$(share 0.18)"
vivant train personalive/mini_stage1_gpu --out "$runs/stage1" --fit-minutes "$(share 0.36)" --init "$runs/start/export"
vivant train personalive/mini_stage2_gpu --out "$runs/stage2" --fit-minutes "$(share 0.14)" --init "$runs/stage1/export"
vivant train personalive/mini_stage3_gpu --out "$runs/stage3" --fit-minutes "$(share 0.12)" --init "$runs/stage2/export"
echo "look at $runs/stage3/pictures.png; animate with --preset $runs/stage3/export"

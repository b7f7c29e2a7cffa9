#!/usr/bin/env bash
# personalive-mini from nothing in about MINUTES: what sees heads and faces, then the three stages; what starting takes is
# counted in. Each goes on from the export of the one before. Ends with a snapshot and an export when it is told to stop;
# run it again to go on.
# Usage: train_personalive.sh DATA RUNS [MINUTES [INIT [SEED]]]; DATA holds talking clips (`vivant studio talk`). With a
# checkpoint INIT the three stages go on from there, with what another SEED draws (1).
set -euo pipefail
data=$1
runs=$2
minutes=${3:-9}
init=${4:-}
seed=${5:-1}
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
if [ -z "$init" ]; then
    vivant train personalive/mini_start_gpu --out "$runs/start" --fit-minutes "$(share 0.18)"
    init=$runs/start/export
    seed=0
fi
vivant train personalive/mini_stage1_gpu --out "$runs/stage1" --fit-minutes "$(share 0.36)" --init "$init" --seed "$seed"
vivant train personalive/mini_stage2_gpu --out "$runs/stage2" --fit-minutes "$(share 0.14)" --init "$runs/stage1/export" --seed "$seed"
vivant train personalive/mini_stage3_gpu --out "$runs/stage3" --fit-minutes "$(share 0.12)" --init "$runs/stage2/export" --seed "$seed"
echo "look at $runs/stage3/pictures.png; animate with --preset $runs/stage3/export"

#!/usr/bin/env bash
# Render synthetic people on all cores, then train liveportrait-mini in its three stages on the GPU.
# Usage: train_mini.sh DATA_FOLDER RUN_FOLDER [IDENTITIES]. Stop it at any time; run it again to go on.
set -euo pipefail
data=$1
runs=$2
identities=${3:-1500}
vivant studio render "$data" --identities "0-$((identities - 1))" --workers "$(nproc)"
vivant train liveportrait/mini_motion_gpu --data "$data" --out "$runs/motion" --device cuda
vivant train liveportrait/mini_generator_gpu --data "$data" --out "$runs/generator" --device cuda \
    --init "$runs/motion/export"
vivant train liveportrait/mini_finish_gpu --data "$data" --out "$runs/finish" --device cuda \
    --init "$runs/generator/export"
vivant evaluate --preset "$runs/finish/export" --data "$data" --out "$runs/evaluation" --overwrite

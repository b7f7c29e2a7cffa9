#!/usr/bin/env bash
# flashportrait-mini from nothing in minutes: talking clips, VAE and face features at once, flow matching.
# Run it again to go on. Usage: train_flashportrait.sh DATA RUNS [IDENTITIES] [SECONDS_VAE] [SECONDS_FLOW]
set -euo pipefail
data=$1
runs=$2
identities=${3:-800}
here=$(dirname "$0")
vivant studio talk "$data" --identities "0-$((identities - 1))" --size 128 --workers "$(nproc)"
mkdir -p "$runs"
# How many images fit is measured once, so that the schedule ends with the time, and kept for going on.
fit() { [ -s "$runs/$1.images" ] || python "$here/fit_images.py" "flashportrait/mini_$1_gpu" "$2" "$data" "${@:3}" > "$runs/$1.images"; }
train() { vivant train "flashportrait/mini_$1_gpu" --data "$data" --out "$runs/$1" --device cuda --images "$(cat "$runs/$1.images")" "${@:2}"; }
# Beside each other, so that each is timed with the other running.
(fit vae "${4:-180}" && train vae) &
(fit face "${4:-180}" && train face) &
wait -n
wait -n
python "$here/join_flashportrait.py" "$runs/vae/export" "$runs/face/export" "$runs/joined"
fit flow "${5:-660}" "$runs/joined"
train flow --init "$runs/joined"
echo "look at $runs/flow/pictures.png; animate with --preset $runs/flow/export"

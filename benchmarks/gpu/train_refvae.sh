#!/usr/bin/env bash
# refvae-mini in MINUTES: VAE, generator, four-step student. Run it again to go on.
# Usage: train_refvae.sh DATA RUNS [MINUTES] [INIT]; DATA is of render_people.sh. INIT: a checkpoint to go on from; without
# one the VAE begins with a start that is solved.
set -euo pipefail
data=(--data "$1/calm" --device cuda)
runs=$2
minutes=${3:-17}
init=(${4:+--init "$4"})
share() { awk "BEGIN { print ${minutes} * $1 }"; }
command -v vivant >/dev/null || vivant() { python3 -m vivant "$@"; }
if [ -z "${4:-}" ]; then
    vivant train refvae/mini_vae_1_gpu --out "$runs/vae_1" "${data[@]}" --fit-minutes "$(share 0.08)"
    init=(--init "$runs/vae_1/export")
fi
vivant train refvae/mini_vae_9_gpu --out "$runs/vae" "${data[@]}" --fit-minutes "$(share 0.36)" "${init[@]}"
vivant train refvae/mini_generator_gpu --out "$runs/generator" "${data[@]}" --fit-minutes "$(share 0.46)" \
    --init "$runs/vae/export"
vivant train refvae/mini_student_gpu --out "$runs/student" "${data[@]}" --fit-minutes "$(share 0.1)" \
    --init "$runs/generator/export"
echo "then, on a CPU (clips are drawn one by one): vivant train refvae/mini_decoder --data $1/calm --out $runs/decoder --init $runs/generator/export"
echo "look at $runs/vae/pictures.png; speak with --preset $runs/generator/export"
echo "or in four steps: --preset $runs/student/export --num-steps 4 --audio-guidance 1 --reference-guidance 1"
echo "measure: python benchmarks/refvae_voice.py --data $1/calm --preset $runs/generator/export (--guidance, --minute)"

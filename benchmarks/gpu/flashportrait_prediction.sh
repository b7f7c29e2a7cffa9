#!/usr/bin/env bash
# Quality against time of every way to predict denoising steps, on full-size blocks: one window of 81 frames at 512 px.
# Needs a GPU with 80 GB (40 GB of weights, 2 GB per memory); module level at full size does not fit and is left out.
# A step of all 40 blocks is 2.1 PFLOP. Arguments are given on: --checkpoint FOLDER, or --blocks 6 --num-steps 20.
set -euo pipefail
export HF_HUB_OFFLINE=1
python3 "$(dirname "$0")/../flashportrait_prediction.py" --size full --device cuda --cases "steps, all|threshold|velocity|hidden" \
    --out prediction "$@"

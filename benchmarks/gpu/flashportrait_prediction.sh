#!/usr/bin/env bash
# Quality against time of every way to predict denoising steps, on full-size blocks: one window of 81 frames at 512 px.
# Needs a GPU with 80 GB (40 GB of weights, 2 GB per memory); module level at full size does not fit and is left out.
set -euo pipefail
export HF_HUB_OFFLINE=1
python benchmarks/flashportrait_prediction.py --size full --device cuda --cases "steps, all|threshold|velocity|hidden" --out prediction \
    ${1:+--checkpoint "$1"}

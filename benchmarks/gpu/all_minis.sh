#!/usr/bin/env bash
# The three minis that are not shipped yet, side by side on one GPU in MINUTES. Run it again to go on.
# Usage: all_minis.sh DATA RUNS [MINUTES] [REFVAE_INIT]; DATA is of render_people.sh. What each said is RUNS/*.log.
set -uo pipefail
here=$(dirname "$0")
mkdir -p "$2"
bash "$here/train_refvae.sh" "$1" "$2/refvae" "${3:-17}" "${4:-}" >"$2/refvae.log" 2>&1 &
for family in personalive flashportrait; do
    bash "$here/train_$family.sh" "$1" "$2/$family" "${3:-17}" >"$2/$family.log" 2>&1 &
done
failed=0
for _ in 1 2 3; do wait -n || failed=1; done
exit $failed

#!/usr/bin/env bash
# Every speed benchmark of this folder, the most valuable first, each within its time; then one table. Eight minutes;
# PARTS="refvae personalive convolutions" runs these alone, SHORT=1 only the rows that targets are of.
# Usage: all_speed.sh [FOLDER]; results go to FOLDER, else to $OUT, else to gpu_results. `--dry` as second: tiny, on a CPU.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-${OUT:-gpu_results}}
dry=${2:-}
mkdir -p "$out"
: >"$out/all.log"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTHONPATH="$here/../../src${PYTHONPATH:+:$PYTHONPATH}"
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-/tmp/inductor} TORCHINDUCTOR_COMPILE_THREADS=${TORCHINDUCTOR_COMPILE_THREADS:-16}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:False}
size=()
refvae=(--cycles 2 --kernels --ways plain kernels graphs overlapped cudnn_attention eager library)
personalive=(--sets 1 --kernels --ways "bf16 eager" "bf16 kernels, graph" "bf16 kernels" "bf16 graph"
    "bf16 kernels, graph, cudnn attention")
convolutions=()
prediction=(--size full --device cuda --blocks 6 --num-steps 20)
if [ "$dry" = --dry ]; then
    size=(--size tiny --device cpu)
    refvae=(--cycles 1 --kernels)
    convolutions=("${size[@]}")
    personalive=(--sets 1 --ways "bf16 eager" "bf16 kernels")
    prediction=(--size tiny --device cpu --num-steps 6)
fi
seconds=(170 120)
if [ -n "${SHORT:-}" ]; then  # what targets are of, in 190 s
    seconds=(90 100)
    refvae=(--cycles 2 --ways kernels)
    personalive=(--sets 1 --kernels --ways "bf16 eager" "bf16 kernels, graph")
fi
failed=0
part() {  # NAME SECONDS SCRIPT ARGUMENTS...: its output goes to FOLDER/all.log; a lent machine gives 8 files back
    local name=$1 seconds=$2 begin=$SECONDS
    shift 2
    case " ${PARTS:-$name} " in *" $name "*) ;; *) return ;; esac
    timeout --kill-after=5 "$seconds" python3 "$@" >>"$out/all.log" 2>&1
    local code=$?
    [ $code -eq 0 ] || { failed=1; tail -n 15 "$out/all.log"; }
    echo "== $name: exit $code after $((SECONDS - begin)) s"
}
part refvae "${seconds[0]}" "$here/refvae_speed.py" "${size[@]}" "${refvae[@]}" --json "$out/refvae.json"
part personalive "${seconds[1]}" "$here/personalive_speed.py" "${size[@]}" "${personalive[@]}" --json "$out/personalive.json"
part convolutions 100 "$here/conv_speed.py" "${convolutions[@]}" --json "$out/convolutions.json"
part liveportrait 50 "$here/liveportrait_speed.py" "${size[@]}" --json "$out/liveportrait.json"
part prediction 80 "$here/../flashportrait_prediction.py" "${prediction[@]}" --out "$out/prediction" \
    --cases "^(20|10|4) steps|hidden, K=5, n=[13]|velocity, K=5|threshold.*0\.[12]$|controlled, hidden, bound 0.[12]"
python3 "$here/table.py" "$out"
exit $failed

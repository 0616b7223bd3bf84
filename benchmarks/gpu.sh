#!/usr/bin/env bash
# The benchmarks that a GPU changes, in under 8 minutes and without network, into one file:
#   bash benchmarks/gpu.sh DATA_DIR MODEL_DIR OUT_FILE
# MODEL_DIR: a directory with MiniLM's weights, or its name if the package with them is installed.
# What has not run after 7 minutes and 40 seconds is left out; the sets with targets come first.
# Not yet run on a GPU: see BENCHMARKS.md.
set -euo pipefail
data=$(realpath "${1:?DATA_DIR}") model=${2:?MODEL_DIR} out=$(realpath "${3:?OUT_FILE}")
[ ! -d "$model" ] || model=$(realpath "$model")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sets=gpu_trainer,gpu_16k,train_step,mlm_step,encode,optimizer_step,train_sst
code=0
HF_HUB_OFFLINE=1 timeout 460 "${PYTHON:-python3}" -m benchmarks --only "$sets" --turns 3 \
  --data-dir "$data" --model "$model" --output-dir "$work/ids" --results "$work" || code=$?
[ ! -f "$work/BENCHMARKS.md" ] || cp "$work/BENCHMARKS.md" "$out"
exit "$code"

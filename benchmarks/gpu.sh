#!/usr/bin/env bash
# The benchmarks that a GPU changes, in under 8 minutes and without network, into one file:
#   bash benchmarks/gpu.sh DATA_DIR MODEL_DIR OUT_DIR      -> OUT_DIR/BENCHMARKS.md
# MODEL_DIR: a directory with MiniLM's weights, or its name if the package with them is installed.
# Not yet run on a GPU: see BENCHMARKS.md.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:?DATA_DIR} model=${2:?MODEL_DIR} out=${3:?OUT_DIR}
sets=train_step,train_step_large,train_sst,mlm_step,encode,optimizer_step
HF_HUB_OFFLINE=1 timeout 480 python -m benchmarks --only "$sets" --turns 3 \
  --data-dir "$data" --model "$model" --output-dir "$out/ids" --results "$out"

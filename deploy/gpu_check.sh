#!/bin/bash
# Whether the GPU path is right and how fast it is, on a machine with NVIDIA GPUs: builds, runs the
# kernel tests on the device, compares a real model with its golden log-probabilities, times the
# kernels, serves under load for two minutes by one and by all GPUs, and writes one report file.
#   --emulated     what of it can run without a GPU, on the emulation; its times mean nothing
#   --report FILE  default: build/gpu_check.md
#   --seconds N    of each load test; default 120
# docs/gpu.md says how to read the report. Exit codes: 0 all passed, 1 something failed (the report
# says what), 2 a mistake in the arguments, 3 there is no GPU that can be used.
set -euo pipefail
cd "$(dirname "$0")/.."

emulated=no report=build/gpu_check.md seconds=120
mistake() { echo "gpu_check.sh: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --emulated) emulated=yes ;;
    --report) report=${2:-}; [ -n "$report" ] || mistake "--report needs a file"; shift ;;
    --seconds) seconds=${2:-}; shift || true ;;
    --help | -h) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) mistake "unknown option '$1'; --emulated, --report FILE, --seconds N, --help" ;;
  esac
  shift
done
[[ "$seconds" =~ ^[1-9][0-9]{0,4}$ ]] || mistake "--seconds '$seconds': a number from 1 to 99999"

bin=build/release/bin tests=build/release/tests work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
mkdir -p build "$(dirname "$report")"
failed=()

# part TITLE COMMAND...: runs it, keeps its output in the report.
part() {
  local title=$1 start=$SECONDS verdict=passed
  shift
  echo "== $title"
  "$@" >"$work/out" 2>&1 || { verdict="FAILED ($?)"; failed+=("$title"); }
  { printf '\n## %s: %s, %d s\n```\n' "$title" "$verdict" $((SECONDS - start))
    tail -n 400 "$work/out"
    printf '```\n'; } >>"$report"
  [ "$verdict" = passed ] || tail -n 20 "$work/out" >&2
}

machine() {
  uname -sr
  sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c
  git rev-parse HEAD 2>/dev/null || true
  [ "$emulated" = yes ] || { nvidia-smi; nvidia-smi topo -m; }
}

build() {
  local targets=(tandem tandem-router tandem-bench)
  if [ "$emulated" = yes ]; then
    targets+=(tandem-worker-emulated tandem-bench-gpu-emulated model_gpu_golden_test)
  else
    targets+=(tandem-worker gpu_selftest gpu_golden tandem-bench-gpu)
  fi
  targets+=(tandem-make-tiny-model)
  cmake --preset release -DTANDEM_CUDA=ON
  cmake --build --preset release -j "${TANDEM_JOBS:-$(nproc)}" --target "${targets[@]}"
}

golden() {
  if [ "$emulated" = yes ]; then
    TANDEM_MODEL=$model TANDEM_GOLDEN_PROMPTS=1 TANDEM_GOLDEN_TOKENS=2 "$tests/model_gpu_golden_test"
  else
    TANDEM_MODEL=$model "$bin/gpu_golden"
  fi
}

kernels() {
  if [ "$emulated" = yes ]; then "$bin/tandem-bench-gpu-emulated" --small; else "$bin/tandem-bench-gpu"; fi
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# load RANKS MODEL: a group of so many GPUs under a steady load; its own log says how sums are made.
load() {
  local ranks=$1 served=$2 load=(--concurrency 32 --input 200:800 --output 128) port
  port=$(free_port)
  mkdir -p "$work/bin"
  ln -sf "$PWD/$bin/tandem-router" "$work/bin/tandem-router"
  ln -sf "$PWD/$bin/tandem-worker" "$work/bin/tandem-worker"
  if [ "$emulated" = yes ]; then
    ln -sf "$PWD/$bin/tandem-worker-emulated" "$work/bin/tandem-worker"
    load=(--concurrency 2 --input 20:60 --output 8)
  fi
  cat >"$work/cluster.yaml" <<YAML
model: {name: checked, path: $served}
groups: [{name: g0, device: cuda, tp: $ranks, max_step_tokens: $([ "$emulated" = yes ] && echo 128 || echo 2048)}]
router: {listen: "127.0.0.1:$port"}
links: {routers: ["ipc://$work/link.ipc"], runtime_dir: $work/run}
YAML
  "$bin/tandem" up --bin-dir "$work/bin" "$work/cluster.yaml" >"$work/up.log" 2>&1 &
  local up=$! status=0
  for _ in $(seq 1200); do
    curl -sf "http://127.0.0.1:$port/ready" >/dev/null && break
    kill -0 "$up" 2>/dev/null || { cat "$work/up.log"; return 1; }
    sleep 0.5
  done
  "$bin/tandem-bench" --url "http://127.0.0.1:$port" --duration "$seconds" --warmup 2 \
    --num-requests 1000000 "${load[@]}" || status=$?
  kill "$up"
  wait "$up" || true
  cat "$work/up.log"
  return "$status"
}

printf '# GPU check%s, %s\n' "$([ "$emulated" = no ] || echo ' on the emulation: times mean nothing')" \
  "$(date -u '+%Y-%m-%d %H:%M UTC')" >"$report"
if [ "$emulated" = no ] && ! nvidia-smi >/dev/null 2>&1; then
  echo "gpu_check.sh: no NVIDIA driver on this machine; --emulated runs what needs none" >&2
  exit 3
fi
part "machine" machine
part "build" build
[ ${#failed[@]} -eq 0 ] || { echo "gpu_check.sh: the build failed; see $report" >&2; exit 1; }
if [ "$emulated" = no ]; then
  part "kernel tests" "$bin/gpu_selftest"
  gpus=$(nvidia-smi --list-gpus | wc -l)
  [ -z "${CUDA_VISIBLE_DEVICES:-}" ] || gpus=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l)
else
  gpus=2
fi
model=$(deploy/get_model.sh) || failed+=("getting the model")
# What all GPUs share: random weights, with a KV head and a part of the feed-forward for each.
"$bin/tandem-make-tiny-model" "$work/random.gguf" family=llama3 head_dim=64 hidden=128 \
  "heads=$((2 * gpus))" "kv_heads=$gpus" "ffn=$((64 * gpus))"
served=$model
[ "$emulated" = no ] || served=$work/random.gguf  # the real one takes minutes there
[ -z "$model" ] || part "golden comparison" golden
part "kernels" kernels
[ -z "$served" ] || part "load, one GPU" load 1 "$served"
[ "$gpus" -lt 2 ] || part "load, all $gpus GPUs, random weights" load "$gpus" "$work/random.gguf"

if [ ${#failed[@]} -gt 0 ]; then
  echo "gpu_check.sh: failed: ${failed[*]}; see $report" >&2
  exit 1
fi
echo "all passed; the report is $report"

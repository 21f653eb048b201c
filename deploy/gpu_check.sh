#!/bin/bash
# Whether the GPU path is right and how fast it is, on a machine with NVIDIA GPUs: builds, runs the
# kernel tests on the device, compares a real model with its golden log-probabilities, times the
# kernels, serves under load for two minutes by one and by all GPUs, and writes one report file.
#   --emulated     what of it can run without a GPU, on the emulation; its times mean nothing
#   --built        builds nothing: the programs of build/release as they are
#   --report FILE  default: build/gpu_check.md
#   --seconds N    of each load test; default 120
# docs/gpu.md says how to read the report. Exit codes: 0 all passed, 1 something failed (the report
# says what), 2 a mistake in the arguments, 3 there is no GPU that can be used.
set -euo pipefail
cd "$(dirname "$0")/.."

emulated=no built=no report=build/gpu_check.md seconds=120
mistake() { echo "gpu_check.sh: $*" >&2; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --emulated) emulated=yes ;;
    --built) built=yes ;;
    --report) report=${2:-}; [ -n "$report" ] || mistake "--report needs a file"; shift ;;
    --seconds) seconds=${2:-}; [ -n "$seconds" ] || mistake "--seconds needs a number"; shift ;;
    --help | -h) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) mistake "unknown option '$1'; --emulated, --built, --report FILE, --seconds N, --help" ;;
  esac
  shift
done
[[ "$seconds" =~ ^[1-9][0-9]{0,4}$ ]] || mistake "--seconds '$seconds': a number from 1 to 99999"

if [ "$emulated" = no ] && ! nvidia-smi >/dev/null 2>&1; then
  echo "gpu_check.sh: no NVIDIA driver on this machine (nvidia-smi does not run); --emulated runs" \
    "what needs none" >&2
  exit 3
fi

bin=build/release/bin work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir -p build "$(dirname "$report")"
failed=()

# part TITLE COMMAND...: runs it, keeps its output in the report. In a function that is a COMMAND,
# `set -e` does not hold.
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

# A part that hangs fails: peer memory that the driver promises and the machine does not have.
# In the background, for `timeout` takes it out of the terminal's group, where ^C does not reach it.
within() { timeout --kill-after=10 "$@" & wait $!; }

machine() {
  uname -sr
  sed -n 's/^model name.*: //p' /proc/cpuinfo | sort | uniq -c
  git rev-parse HEAD 2>/dev/null || true
  [ "$emulated" = yes ] || { nvidia-smi && { nvidia-smi topo -m || true; }; }
}

build() {
  local programs=(tandem tandem-router tandem-bench tandem-make-tiny-model) program
  if [ "$emulated" = yes ]; then
    programs+=(tandem-worker-emulated tandem-bench-gpu-emulated gpu_golden_emulated)
  else
    programs+=(tandem-worker gpu_selftest gpu_golden tandem-bench-gpu)
  fi
  if [ "$built" = no ]; then
    cmake --preset release -DTANDEM_CUDA=ON &&
      cmake --build --preset release -j "${TANDEM_JOBS:-$(nproc)}" --target "${programs[@]}"
    return
  fi
  for program in "${programs[@]}"; do
    [ -x "$bin/$program" ] || { echo "$bin/$program is not built"; return 1; }
  done
  echo "as they are: ${programs[*]}"
}

# Every memory access and barrier of a small test of each kernel but sums between GPUs and products
# by cuBLASLt, by CUDA's own tool where it is there.
sanitizer() {
  local tool tests='CudaAddRmsNormRows.*:CudaAttentionSmall.*:CudaEmbed.Notes*'
  tests+=':CudaQuantMatMulSmall.*:CudaRope.SmallHeads:CudaSample.RowsDoNotDependOnOthers:CudaSampleSmall.*'
  tests+=':CudaSiluMul.Takes*'
  command -v compute-sanitizer || { echo "no compute-sanitizer on the PATH: skipped"; return 0; }
  for tool in memcheck racecheck synccheck; do
    echo "-- $tool"
    within 900 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      "$bin/gpu_selftest" --gtest_filter="$tests" || return
  done
}

# Its log-probabilities are SmolLM2's, whatever TANDEM_MODEL is.
golden() {
  local model
  model=$(env -u TANDEM_MODEL deploy/get_model.sh) || return
  if [ "$emulated" = yes ]; then
    TANDEM_MODEL=$model TANDEM_GOLDEN_SMALL=1 "$bin/gpu_golden_emulated"
  else
    TANDEM_MODEL=$model within 900 "$bin/gpu_golden"
  fi
}

kernels() {
  if [ "$emulated" = yes ]; then
    "$bin/tandem-bench-gpu-emulated" --small
  else
    within 900 "$bin/tandem-bench-gpu"
  fi
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Random weights that all GPUs can share: a KV head and a part of the feed-forward for each. Its
# tokenizer knows little but letters, so that 800 words are some thousands of tokens.
random_model() {
  "$bin/tandem-make-tiny-model" "$1" family=llama3 head_dim=64 hidden=128 "heads=$((2 * gpus))" \
    "kv_heads=$gpus" "ffn=$((64 * gpus))" context=8192
}

# On the emulation a real model takes minutes.
load_one() {
  local model=$work/random.gguf
  if [ "$emulated" = yes ]; then
    random_model "$model" || return
  else
    model=$(deploy/get_model.sh) || return
  fi
  load 1 "$model"
}

load_all() { random_model "$work/random.gguf" && load "$gpus" "$work/random.gguf"; }

# load RANKS MODEL: a group of so many GPUs under a steady load; its own log says how sums are made.
load() {
  local ranks=$1 served=$2 load=(--concurrency 32 --input 200:800 --output 128) port ready=no
  port=$(free_port)
  mkdir -p "$work/bin"
  ln -sf "$PWD/$bin/tandem-router" "$work/bin/tandem-router"
  ln -sf "$PWD/$bin/tandem-worker" "$work/bin/tandem-worker"
  if [ "$emulated" = yes ]; then
    ln -sf "$PWD/$bin/tandem-worker-emulated" "$work/bin/tandem-worker"
    load=(--concurrency 2 --input 20:60 --output 8)
  fi
  cat >"$work/cluster.yaml" <<YAML
model: {name: checked, path: "$served"}
groups: [{name: g0, device: cuda, tp: $ranks, max_step_tokens: $([ "$emulated" = yes ] && echo 128 || echo 2048)}]
router: {listen: "127.0.0.1:$port"}
links: {routers: ["ipc://$work/link.ipc"], runtime_dir: $work/run}
YAML
  "$bin/tandem" up --bin-dir "$work/bin" "$work/cluster.yaml" >"$work/up.log" 2>&1 &
  local up=$! status=0
  for _ in $(seq 1200); do
    curl -sf -m 5 "http://127.0.0.1:$port/ready" >/dev/null && ready=yes && break
    kill -0 "$up" 2>/dev/null || { cat "$work/up.log"; return 1; }
    sleep 0.5
  done
  if [ "$ready" = yes ]; then
    within $((seconds + 300)) "$bin/tandem-bench" --url "http://127.0.0.1:$port" \
      --duration "$seconds" --warmup 2 --num-requests 1000000 "${load[@]}" || status=$?
  else
    echo "the group is not ready after ten minutes"
    status=1
  fi
  kill "$up"
  for _ in $(seq 600); do kill -0 "$up" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$up" 2>/dev/null || true
  wait "$up" || true
  cat "$work/up.log"
  return "$status"
}

printf '# GPU check%s, %s\n' "$([ "$emulated" = no ] || echo ' on the emulation: times mean nothing')" \
  "$(date -u '+%Y-%m-%d %H:%M UTC')" >"$report"
part "machine" machine
part "build" build
[ ${#failed[@]} -eq 0 ] || { echo "gpu_check.sh: the build failed; see $report" >&2; exit 1; }
if [ "$emulated" = no ]; then
  part "kernel tests" within 1800 "$bin/gpu_selftest"
  part "sanitizer" sanitizer
  gpus=$(nvidia-smi --list-gpus | grep -c '^GPU' || true)
  [ -z "${CUDA_VISIBLE_DEVICES:-}" ] || gpus=$(tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l)
else
  gpus=2
fi
part "golden comparison" golden
part "kernels" kernels
part "load, one GPU" load_one
[ "$gpus" -lt 2 ] || part "load, all $gpus GPUs, random weights" load_all

if [ ${#failed[@]} -gt 0 ]; then
  echo "gpu_check.sh: failed:$(printf ' %s;' "${failed[@]}") see $report" >&2
  exit 1
fi
echo "all passed; the report is $report"

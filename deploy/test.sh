#!/bin/bash
# Sets up what the tests need and runs all of them. On Debian 12, as root or with sudo.
#   deploy/test.sh                 everything, ends with ctest's summary of the release build
#   deploy/test.sh PART...         release | dev | tsan | tidy | fuzz
# Exit code 0 only if every part passed.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=${TANDEM_JOBS:-2}

die() { echo "test.sh: $*" >&2; exit 1; }

setup() {
  deploy/install-deps.sh --test
  # Nothing of the GPU worker is left out here: kernels are compiled, and run on the emulation.
  local nvcc
  nvcc=$(cmake -P cmake/find_nvcc.cmake 2>&1)
  [ -x "$nvcc" ] || die "$nvcc"
  deploy/get_model.sh
  local wanted=tests/e2e/requirements.txt stamp=build/venv/requirements.stamp
  if ! cmp -s "$wanted" "$stamp"; then
    [ -x build/venv/bin/pip ] || python3 -m venv build/venv
    build/venv/bin/pip install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$stamp"
  fi
}

configure() { cmake --preset "$1" -DTANDEM_CUDA=ON >"build/configure-$1.log" || { cat "build/configure-$1.log"; return 1; }; }

# The tests of one preset; each that tests/EXPECTED names must have run.
run_ctest() {
  local preset=$1
  shift
  ctest --preset "$preset" -j "$jobs" --no-tests=error --test-output-size-passed 4000000 \
    --output-junit junit.xml "$@"
  python3 tests/expected.py check "$preset" "build/$preset/junit.xml"
}

build_release() {
  configure release
  cmake --build --preset release -j "$jobs"
  # Every header compiles alone.
  cmake --build --preset release -j "$jobs" --target all_verify_interface_header_sets
}

test_release() {
  deploy/get_model.sh gemma3-270m
  run_ctest release
}

# Where a preset is for tests alone: only they are built, and what end-to-end tests start.
build_tests() {
  local preset=$1 targets
  shift
  mapfile -t targets < <(
    known=$(ninja -C "build/$preset" -t targets all | sed 's/: .*//')
    ctest --preset "$preset" --show-only=json-v1 "$@" |
      python3 -c 'import json, sys; [print(t["name"]) for t in json.load(sys.stdin)["tests"]]' |
      grep -Fx -f <(echo "$known") || true
    printf '%s\n' tandem tandem-router tandem-worker e2e_tiny_model
  )
  cmake --build --preset "$preset" -j "$jobs" --target "${targets[@]}"
}

part_dev() {
  configure dev
  build_tests dev -LE release_only
  run_ctest dev -LE release_only
}

part_tsan() {
  configure tsan
  build_tests tsan
  run_ctest tsan
}

part_tidy() {
  git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format --dry-run -Werror
  configure tidy
  cmake --build --preset tidy -j "$jobs" --target tandem_proto
  deploy/tidy.py build/tidy "${TANDEM_TIDY_SECONDS:-180}"
}

# Every target from its corpus, a minute each.
part_fuzz() {
  ls tests/fuzz/corpus | xargs -P "$jobs" -I{} sh -c '
    tests/fuzz/run.sh 60 {} >build/fuzz-{}.log 2>&1 || { tail -n 100 build/fuzz-{}.log; exit 1; }'
}

# A process of its own, so that `set -e` holds inside; prints how long it took.
failed=()
run() {
  local start=$SECONDS
  echo "== $1"
  "$0" --run "$1" || failed+=("$1")
  echo "== $1: $((SECONDS - start)) s"
}

mkdir -p build
if [ "${1:-}" = --run ]; then
  "$2"
  exit
fi
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(tsan dev tidy fuzz release)
for part in "${parts[@]}"; do
  [[ $part =~ ^(release|dev|tsan|tidy|fuzz)$ ]] || die "unknown part '$part'; release dev tsan tidy fuzz"
done

run setup
[ ${#failed[@]} -eq 0 ] || die "the set-up failed"
for part in "${parts[@]}"; do
  if [ "$part" = release ]; then run build_release; else run "part_$part"; fi
done
# Last, so that its summary is what a reader sees.
if [[ " ${parts[*]} " = *" release "* ]]; then
  "$0" --run test_release || failed+=(test_release)
fi
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"

#!/bin/sh
# Builds a fuzz target with clang and runs it from its seed corpus:
#   tests/fuzz/run.sh [SECONDS [NAME]]     (default: 60 gguf; NAME is a folder of corpus/)
# Exit code 0: nothing found. What it finds stays in build/tidy/fuzz/NAME/.
set -eu
seconds=${1:-60}
name=${2:-gguf}
cd "$(dirname "$0")/../.."
build=${TANDEM_FUZZ_BUILD:-build/tidy}
mkdir -p "$build"
# 60 s for one input: the slowest known takes 0.9 s without sanitizers and 13 s with them on a quiet
# machine (a pattern that is refused as too large), and more beside other work.
# Several targets may be run at once, but built one after the other.
flock "$build" sh -c "cmake --preset tidy -B '$build' >/dev/null && cmake --build '$build' --target ${name}_fuzz"
mkdir -p "$build/fuzz/$name/corpus"
# New inputs go to the first folder; the committed seeds are only read.
exec "$build/tests/${name}_fuzz" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 \
  -malloc_limit_mb=256 -max_len=65536 -print_final_stats=1 -artifact_prefix="$build/fuzz/$name/" \
  "$build/fuzz/$name/corpus" "tests/fuzz/corpus/$name"

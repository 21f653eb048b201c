#!/bin/sh
# Builds gguf_fuzz with clang and runs it from the seed corpus: tests/fuzz/run.sh [SECONDS]
# (default 60). Exit code 0: nothing found. What it finds stays in build/tidy/fuzz/.
set -eu
seconds=${1:-60}
cd "$(dirname "$0")/../.."
build=${TANDEM_FUZZ_BUILD:-build/tidy}
cmake --preset tidy -B "$build" >/dev/null
cmake --build "$build" --target gguf_fuzz
mkdir -p "$build/fuzz/corpus"
# New inputs go to the first folder; the committed seeds are only read.
exec "$build/tests/gguf_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
  -malloc_limit_mb=256 -max_len=65536 -print_final_stats=1 -verbosity=1 \
  -artifact_prefix="$build/fuzz/" "$build/fuzz/corpus" tests/fuzz/corpus/gguf

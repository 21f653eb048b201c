// What bench/engine measures, in tokens a second:
//   prefill:N  one prompt of N tokens, until its first token is sampled
//   decode:B   B sequences, each with a prompt of 32 tokens of its own and 64 greedy tokens; new
//              tokens over the time of the steps in which all B decode and nobody prefills
#pragma once

#include <string>

#include "bench/engine/bench_group.h"
#include "common/status.h"

namespace tandem::bench {

struct Case {
  enum class Kind { kPrefill, kDecode };
  Kind kind = Kind::kPrefill;
  int size = 0;
  std::string name() const;  // "prefill_512", "decode_b16"
};

// "prefill:512" or "decode:16".
StatusOr<Case> ParseCase(const std::string& text);

// Runs it once; `seed` makes the prompts. The engine must be idle. Checks that every sequence got
// as many tokens as it was to get.
StatusOr<double> RunCase(BenchGroup& group, const Case& which, unsigned seed);

}  // namespace tandem::bench

#include "bench/sim/prompt.h"

#include <algorithm>
#include <random>

namespace tandem::simulator {
namespace {

// SplitMix64's finalizer: neighbouring numbers become unrelated ones.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

// Two tokens from each mixed number: prompts are most of a trace's bytes.
void AppendTokens(uint64_t key, int32_t count, uint64_t vocab, std::vector<TokenId>& out) {
  for (int32_t i = 0; i < count; i += 2) {
    const uint64_t bits = Mix(key + static_cast<uint64_t>(i));
    out.push_back(static_cast<TokenId>(((bits & 0xFFFFFFFFU) * vocab) >> 32));
    if (i + 1 < count) out.push_back(static_cast<TokenId>(((bits >> 32) * vocab) >> 32));
  }
}

}  // namespace

void Retime(Trace& trace, Nanos jitter, double rate_scale, uint64_t seed) {
  if (jitter > 0) {
    std::mt19937_64 rng(seed);
    for (TraceRequest& request : trace.requests) {
      request.arrival += static_cast<Nanos>(rng() % static_cast<uint64_t>(jitter));
    }
    std::stable_sort(
        trace.requests.begin(), trace.requests.end(),
        [](const TraceRequest& a, const TraceRequest& b) { return a.arrival < b.arrival; });
  }
  for (TraceRequest& request : trace.requests) {
    request.arrival = static_cast<Nanos>(static_cast<double>(request.arrival) / rate_scale);
  }
}

void MakePrompt(const Trace& trace, size_t index, int vocab_size, std::vector<TokenId>& prompt) {
  const TraceRequest& request = trace.requests[index];
  const auto vocab = static_cast<uint64_t>(vocab_size);
  prompt.clear();
  // Where the engine will add the reply: the largest copy of a run otherwise.
  prompt.reserve(static_cast<size_t>(request.prompt_tokens + request.output_tokens));
  int32_t left = request.prompt_tokens;
  for (const uint64_t hash : trace.HashesOf(request)) {
    const int32_t count = std::min(left, trace.hash_tokens);
    AppendTokens(Mix(hash), count, vocab, prompt);
    left -= count;
  }
  AppendTokens(Mix(~static_cast<uint64_t>(index)), left, vocab, prompt);
}

}  // namespace tandem::simulator

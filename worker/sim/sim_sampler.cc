#include "worker/sim/sim_sampler.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace tandem::sim {
namespace {

// Steele, Lea and Flood's SplitMix64: every bit of the key changes every bit of the result.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

uint64_t Draw(const SamplingSpec& sampling, int position) {
  const uint64_t seed = sampling.temperature == 0 ? 0 : sampling.seed;
  return Mix(Mix(Mix(seed) + sampling.sequence_index) + static_cast<uint64_t>(position));
}

}  // namespace

SimSampler::SimSampler(std::vector<TokenId> tokens)
    : tokens_(std::move(tokens)), logprob_(-std::log(static_cast<float>(tokens_.size()))) {
  TANDEM_CHECK(!tokens_.empty() && std::is_sorted(tokens_.begin(), tokens_.end()))
      << tokens_.size() << " tokens";
}

void SimSampler::Sample(const PlanRow& row, int position, RowResult& result) const {
  result.token = row.forced_token >= 0 ? row.forced_token
                                       : tokens_[Draw(row.sampling, position) % tokens_.size()];
  result.num_top = 0;
  if (row.sampling.num_logprobs < 0) return;
  result.logprob = logprob_;
  const int most = std::min(kMaxLogprobs, static_cast<int>(tokens_.size()));
  result.num_top = std::clamp(row.sampling.num_logprobs, 0, most);
  for (int i = 0; i < result.num_top; ++i) {
    result.top_ids[i] = tokens_[static_cast<size_t>(i)];
    result.top_logprobs[i] = logprob_;
  }
}

}  // namespace tandem::sim

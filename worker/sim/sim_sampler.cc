#include "worker/sim/sim_sampler.h"

#include <algorithm>
#include <cmath>
#include <iterator>

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

// By weight: exp(bias / temperature), 1 for the others. A greedy draw is even among those of the
// greatest weight.
TokenId DrawBiased(std::span<const TokenId> tokens, const PlanRow& row, int position,
                   std::span<const TokenBias> biases) {
  std::vector<double> logits(tokens.size(), 0.0);
  for (const TokenBias& b : biases) {
    const auto at = std::lower_bound(tokens.begin(), tokens.end(), b.token);
    if (at == tokens.end() || *at != b.token || position >= b.until) continue;
    logits[static_cast<size_t>(at - tokens.begin())] += b.bias;
  }
  const double max = *std::max_element(logits.begin(), logits.end());
  if (std::isinf(max)) return tokens.front();  // none may come: as the real one, the first
  const double temperature = row.sampling.temperature;
  double total = 0;
  for (double& value : logits) {
    value = temperature > 0 ? std::exp((value - max) / temperature) : value == max ? 1 : 0;
    total += value;
  }
  const double uniform = static_cast<double>(Draw(row.sampling, position) >> 11) * 0x1p-53;
  double left = uniform * total;
  size_t last = 0;  // with a weight
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] == 0) continue;
    last = i;
    left -= logits[i];
    if (left < 0) break;
  }
  return tokens[last];
}

}  // namespace

SimSampler::SimSampler(std::vector<TokenId> tokens)
    : tokens_(std::move(tokens)), logprob_(-std::log(static_cast<float>(tokens_.size()))) {
  TANDEM_CHECK(!tokens_.empty() && std::is_sorted(tokens_.begin(), tokens_.end()))
      << tokens_.size() << " tokens";
}

void SimSampler::Sample(const PlanRow& row, int position, std::span<const TokenBias> biases,
                        std::span<const uint32_t> mask, RowResult& result) const {
  if (row.forced_token >= 0) {
    result.token = row.forced_token;
  } else if (!mask.empty()) {
    result.token = DrawBiased(Allowed(mask), row, position, biases);
  } else if (biases.empty()) {
    result.token = tokens_[Draw(row.sampling, position) % tokens_.size()];
  } else {
    result.token = DrawBiased(tokens_, row, position, biases);
  }
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

std::vector<TokenId> SimSampler::Allowed(std::span<const uint32_t> mask) const {
  const auto allows = [&](TokenId token) {
    return (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1) != 0;
  };
  std::vector<TokenId> allowed;
  std::copy_if(tokens_.begin(), tokens_.end(), std::back_inserter(allowed), allows);
  if (!allowed.empty()) return allowed;
  const auto vocabulary = static_cast<TokenId>(32 * mask.size());
  for (TokenId token = 0; token < vocabulary; ++token) {
    if (allows(token)) allowed.push_back(token);
  }
  return allowed;
}

}  // namespace tandem::sim

// Tokens of a simulated group: drawn evenly from a list by a generator whose key is (seed, sequence
// index, position), as the real one's. So a sequence gets the same tokens alone, batched, preempted
// or resumed elsewhere; greedy ones have no seed. Pure.
#pragma once

#include <span>
#include <vector>

#include "worker/step_plan.h"

namespace tandem::sim {

class SimSampler {
 public:
  // REQUIRES: `tokens` is sorted and not empty.
  explicit SimSampler(std::vector<TokenId> tokens);

  // The token at `position` (0-based, prompt included), or row.forced_token: as if all of the list
  // had one logit, to which `biases` (ascending by token) are added. With a `mask` (a bit a token
  // of the vocabulary) those of the list that it allows, or, if there are none, all that it allows.
  // Logprobs, if asked for, are those of the even distribution.
  void Sample(const PlanRow& row, int position, std::span<const TokenBias> biases,
              std::span<const uint32_t> mask, RowResult& result) const;

 private:
  std::vector<TokenId> Allowed(std::span<const uint32_t> mask) const;

  const std::vector<TokenId> tokens_;
  const float logprob_;  // of each
};

}  // namespace tandem::sim

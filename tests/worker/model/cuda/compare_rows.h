// How far what a GPU sampled is from what another forward pass did for the same tokens.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/worker/model/script.h"

namespace tandem::model::cuda {

// Bounds on a logprob's difference from float32, with activations in bf16 (8 bits) or f16 (11
// bits), over models of two layers. Nearer than twice that, either of two tokens may be likelier.
inline constexpr double kBf16Distance = 0.16;
inline constexpr double kF16Distance = kBf16Distance / 8;

// Of a token that is missing among the likeliest of `got`: at least this far.
inline double TopDistance(const RowResult& got, TokenId id, double logprob) {
  const TokenId* const end = got.top_ids + got.num_top;
  const TokenId* const at = std::find(got.top_ids, end, id);
  if (at != end) return std::abs(double{got.top_logprobs[at - got.top_ids]} - logprob);
  return std::max(0.0, logprob - got.top_logprobs[got.num_top - 1]);
}

// The most that a logprob differs, of the tokens and of all that were likeliest. Tokens, and how
// many logprobs there are, must be equal.
inline double Distance(const ScriptResults& got, const ScriptResults& expected) {
  double most = 0;
  EXPECT_EQ(got.size(), expected.size());
  for (size_t s = 0; s < expected.size(); ++s) {
    EXPECT_EQ(got[s].size(), expected[s].size());
    for (size_t i = 0; i < expected[s].size(); ++i) {
      const RowResult &a = got[s][i], &b = expected[s][i];
      EXPECT_EQ(a.token, b.token);
      EXPECT_EQ(a.num_top, kMaxLogprobs);
      EXPECT_EQ(b.num_top, kMaxLogprobs);
      most = std::max(most, std::abs(double{a.logprob} - b.logprob));
      for (int k = 0; k < b.num_top; ++k) {
        most = std::max(most, TopDistance(a, b.top_ids[k], b.top_logprobs[k]));
      }
    }
  }
  return most;
}

}  // namespace tandem::model::cuda

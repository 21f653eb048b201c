// What sampling takes and gives. Plain structs; the meaning, in order:
//   1 p = softmax(logits / temperature); temperature 0 is the greatest logit, ties to the lowest id
//   2 top_k: keep the k most likely (ties to the lowest id)
//   3 top_p: of these, renormalized, keep the fewest most likely whose mass reaches top_p
//   4 min_p: keep those with p >= min_p * max p
//   5 draw with UniformDraw(seed, sequence_index, position) from what is left, lowest id first
// Logprobs are natural logarithms under the full distribution at temperature 1. A NaN logit counts
// as minus infinity.
#pragma once

#include <cstdint>

namespace tandem::kernels {

inline constexpr int kMaxTopLogprobs = 20;

struct SamplingParams {
  float temperature = 0;  // >= 0
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1)
  int32_t top_k = 0;      // 0: off
  uint64_t seed = 0;
  uint32_t sequence_index = 0;
  uint64_t position = 0;      // of the token that is drawn, in its sequence
  int32_t num_logprobs = -1;  // -1: none; n: of the token and of the n most likely
  int32_t forced_token = -1;  // >= 0: taken instead of a draw
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;    // of `token`; 0 if none were asked for
  int32_t num_top = 0;  // entries below: most likely first, ties to the lowest id
  int32_t top_ids[kMaxTopLogprobs] = {};
  float top_logprobs[kMaxTopLogprobs] = {};
};

}  // namespace tandem::kernels

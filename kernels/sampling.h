// What sampling takes and gives. Plain structs; the meaning, in order:
//   0 biases are added to logits, in float32, then penalties: logits of tokens that are in the
//     sequence already are lowered (see below); then tokens that are not in the mask get minus
//     infinity
//   1 p = softmax(logits / temperature); temperature 0 is the greatest logit, ties to the lowest id
//   2 top_k: keep the k most likely (ties to the lowest id)
//   3 top_p: of these, renormalized, keep the fewest most likely whose mass reaches top_p
//   4 min_p: keep those with p >= min_p * max p
//   5 draw with UniformDraw(seed, sequence_index, position) from what is left, lowest id first
// Logprobs are natural logarithms under the full distribution at temperature 1, without biases,
// penalties and mask.
// A NaN logit counts as minus infinity.
//
// Penalties of a token that is in the sequence, in this order (as vLLM and llama.cpp have them):
//   repetition  if it is anywhere, prompt or output: logit / r where that is above 0, else logit *
//   r frequency   logit -= f * times it is in the output presence    logit -= p, if it is in the
//   output
#pragma once

#include <cstdint>

#include "common/token_bias.h"

namespace tandem::kernels {

inline constexpr int kMaxTopLogprobs = 20;

struct SamplingParams {
  float temperature = 0;  // >= 0
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1)
  int32_t top_k = 0;      // 0: off
  uint64_t seed = 0;
  uint32_t sequence_index = 0;
  uint64_t position = 0;         // of the token that is drawn, in its sequence
  int32_t num_logprobs = -1;     // -1: none; n: of the token and of the n most likely
  int32_t forced_token = -1;     // >= 0: taken instead of a draw
  float repetition_penalty = 1;  // > 0; 1: off
  float presence_penalty = 0;    // 0: off
  float frequency_penalty = 0;   // 0: off
  // Ascending by token; one that is there twice has the sum. In the device's memory.
  const TokenBias* biases = nullptr;
  int32_t num_biases = 0;
  // Bit t of word t / 32 is set: token t may be drawn; at least one is. Null: all may. In the
  // device's memory.
  const uint32_t* mask = nullptr;  // [(V + 31) / 32]

  constexpr bool penalized() const {
    return repetition_penalty != 1 || presence_penalty != 0 || frequency_penalty != 0;
  }
  // Draws are from other logits than logprobs.
  constexpr bool adjusted() const { return penalized() || num_biases > 0 || mask != nullptr; }
  // REQUIRES: mask != nullptr
  constexpr bool allows(int32_t token) const { return (mask[token / 32] >> (token % 32) & 1) != 0; }
  constexpr bool applies(const TokenBias& b) const {
    return position < static_cast<uint64_t>(b.until);
  }
};

// The tokens of a sequence so far, where its block table finds them: what penalties go by.
struct TokenHistory {
  const int32_t* block_tokens = nullptr;  // of all blocks
  const int32_t* blocks = nullptr;        // of the sequence
  int32_t block_size = 1;
  int32_t num_tokens = 0;
  int32_t num_prompt_tokens = 0;  // leading ones: the others are output

  // f(i, token) for i = 0, 1, 2, ...
  template <class F>
  void ForEach(F&& f) const {
    for (int32_t block = 0, i = 0; i < num_tokens; ++block) {
      const int32_t* tokens = block_tokens + int64_t{blocks[block]} * block_size;
      for (int32_t j = 0; j < block_size && i < num_tokens; ++j, ++i) f(i, tokens[j]);
    }
  }
};

struct SampledToken {
  int32_t token = 0;
  float logprob = 0;    // of `token`; 0 if none were asked for
  int32_t num_top = 0;  // entries below: most likely first, ties to the lowest id
  int32_t top_ids[kMaxTopLogprobs] = {};
  float top_logprobs[kMaxTopLogprobs] = {};
};

}  // namespace tandem::kernels

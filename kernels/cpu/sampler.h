// Draws tokens from rows of logits; the meaning is in kernels/sampling.h. Never sorts the whole
// vocabulary: truncation finds the least likely token that is kept.
// Plain C++ for any CPU: the same logits give the same token on every instruction set.
// Thread: one. Memory: allocated by the constructor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/sampling.h"

namespace tandem::kernels::cpu {

class Sampler {
 public:
  explicit Sampler(int max_vocab);
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params);

 private:
  int32_t Draw(std::span<const float> logits, const SamplingParams& params, float max);
  uint64_t Threshold(std::span<const float> logits, const SamplingParams& params, double total);
  uint64_t TopPThreshold(std::span<uint64_t> candidates, double mass);

  std::vector<float> p_;        // exp((logit - max) / temperature), 0 for what is cut off
  std::vector<uint64_t> keys_;  // see KeyOf
};

}  // namespace tandem::kernels::cpu

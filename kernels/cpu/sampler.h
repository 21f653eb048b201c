// Draws tokens from rows of logits; the meaning is in kernels/sampling.h. Never sorts the whole
// vocabulary: truncation looks for the least likely token that is kept.
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
  // `history` is read if params.penalized(). REQUIRES: its ids are below logits.size().
  SampledToken Sample(std::span<const float> logits, const SamplingParams& params,
                      const TokenHistory& history);

 private:
  // What lies in one interval of logits: candidates are counted into these, so that only the
  // interval in which a bound falls needs sorting.
  struct Bin {
    double mass = 0;
    int64_t count = 0;
  };

  // Into adjusted_.
  std::span<const float> Adjust(std::span<const float> logits, const SamplingParams& params,
                                const TokenHistory& history);
  void Penalize(const SamplingParams& params, const TokenHistory& history);
  void Mask(const uint32_t* mask, size_t vocab);
  // `best`: id of the greatest logit.
  int32_t Choose(std::span<const float> logits, const SamplingParams& params, int32_t best);
  int32_t Draw(std::span<const float> logits, const SamplingParams& params, float max);
  uint64_t Threshold(std::span<const float> logits, const SamplingParams& params);
  std::span<uint64_t> SortedBin(std::span<const float> logits, size_t bin);

  std::vector<float> adjusted_;   // logits with biases, penalties, mask
  std::vector<int32_t> counts_;   // times in the output, and kInPrompt; 0 between calls
  std::vector<float> p_;          // exp((logit - max) / temperature), 0 for what is cut off
  std::vector<uint16_t> bin_of_;  // most likely tokens in bin 0
  std::vector<Bin> bins_;
  std::vector<uint64_t> keys_;  // of one bin; see KeyOf
};

}  // namespace tandem::kernels::cpu

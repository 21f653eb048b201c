// Draws tokens from rows of logits; the meaning is in kernels/sampling.h. Never sorts the whole
// vocabulary: truncation looks for the least likely token that is kept.
// The same logits give the same token on every instruction set.
// Thread: one. Memory: allocated by the constructor.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/sampling.h"

namespace tandem::kernels::cpu {

class Sampler {
 public:
  Sampler(int max_vocab, const SamplingKernels& kernels);
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
  int32_t ArgMax(std::span<const float> logits) const;
  double SumOfBlocks(std::span<const float> p);  // into sums_ too
  double LogSum(std::span<const float> logits, float max);
  void CutBelow(std::span<const float> logits, std::span<float> p, uint64_t threshold);
  int32_t Invert(std::span<const float> p, double u);
  std::span<const int32_t> candidates() const {
    return std::span(candidates_).first(num_candidates_);
  }
  Bin FillBins(size_t vocab, int16_t limit);
  uint64_t Threshold(std::span<const float> logits, const SamplingParams& params);
  std::span<uint64_t> SortedBin(std::span<const float> logits, size_t bin);

  SamplingKernels kernels_;
  std::vector<float> adjusted_;      // logits with biases, penalties, mask
  std::vector<int32_t> counts_;      // times in the output, and kInPrompt; 0 between calls
  std::vector<float> p_;             // exp((logit - max) / temperature), 0 for what is cut off
  std::vector<double> sums_;         // of p_, of each block
  std::vector<int16_t> bin_of_;      // most likely tokens in bin 0
  std::vector<int32_t> candidates_;  // ids of the bins that were filled, ascending
  int64_t num_candidates_ = 0;
  std::vector<Bin> bins_;
  std::vector<uint64_t> keys_;  // of one bin; see KeyOf
};

}  // namespace tandem::kernels::cpu

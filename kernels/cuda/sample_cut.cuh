// Where top_k and top_p cut a row, without sorting it: the range of keys that holds the cut is
// divided into bins, and the bin that holds it again, until that bin has one token. Exact for any
// row, since no two keys are equal; a row of 128,000 logits usually takes one or two passes.
#pragma once

#include <cstdint>

#include "common/round.h"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/sample_row.cuh"

namespace tandem::kernels::cuda {

inline constexpr int kPickThreads = 512;
inline constexpr int kCutBinBits = 11;
inline constexpr int kCutBins = 1 << kCutBinBits;

// Tokens and their mass by bin, in shared memory; bin 0 is the most likely one.
struct Bins {
  Word* mass;
  uint32_t* count;
};

// The first bin at which a running sum reaches a target, and what stands before it.
struct Crossing {
  int bin;
  Word count_before, mass_before;
  Word count, mass;  // of the bin
};

struct CutShared {
  Bins bins;           // kCutBins
  Crossing* crossing;  // 1
};

enum class CutBy { kCount, kMass };

// Tokens with keys >= lowest_key are kept; their mass.
struct Cut {
  Word lowest_key;
  Word mass;
};

// All threads of a block of kPickThreads call. REQUIRES: target is reached.
__device__ inline Crossing FindCrossing(const Bins& bins, int num_bins, Word count_before,
                                        Word mass_before, Word target, CutBy by, Word* shared,
                                        Crossing* result) {
  __syncthreads();  // bins are complete
  const int each = CeilDiv(num_bins, kPickThreads);
  const int begin = static_cast<int>(threadIdx.x) * each, end = min(begin + each, num_bins);
  Word count = 0, mass = 0;
  for (int bin = begin; bin < end; ++bin) {
    count += bins.count[bin];
    mass += bins.mass[bin];
  }
  count_before += BlockSumBefore(count, shared);
  mass_before += BlockSumBefore(mass, shared);
  const Word before = by == CutBy::kCount ? count_before : mass_before;
  const Word own = by == CutBy::kCount ? count : mass;
  if (before < target && before + own >= target) {
    int bin = begin;
    for (;; ++bin) {
      const Word reached =
          by == CutBy::kCount ? count_before + bins.count[bin] : mass_before + bins.mass[bin];
      if (reached >= target) break;
      count_before += bins.count[bin];
      mass_before += bins.mass[bin];
    }
    *result = {bin, count_before, mass_before, bins.count[bin], bins.mass[bin]};
  }
  __syncthreads();
  return *result;
}

// Sorts the tokens with keys in [low, high) into bins of 2^shift keys, the greatest first.
__device__ inline void FillBins(const RowLogits& logits, const Scale& scale, Word low, Word high,
                                int shift, const Bins& bins) {
  __syncthreads();  // everybody has read the last ones
  for (int bin = static_cast<int>(threadIdx.x); bin < kCutBins; bin += kPickThreads) {
    bins.count[bin] = 0;
    bins.mass[bin] = 0;
  }
  __syncthreads();
  for (int32_t id = static_cast<int32_t>(threadIdx.x); id < logits.vocab(); id += kPickThreads) {
    const float logit = logits(id);
    const Word key = KeyOf(logit, id);
    if (key < low || key >= high) continue;
    const auto bin = static_cast<int>((high - 1 - key) >> shift);
    atomicAdd(&bins.count[bin], 1u);
    atomicAdd(&bins.mass[bin], MassOf(scale.Probability(logit)));
  }
}

// The least likely token that is needed for the target: that many tokens, or that much mass.
// `row_bins`: the whole row by BinOf(scale, ...). All threads of the block call.
__device__ inline Cut FindCut(const RowLogits& logits, const Scale& scale, const Bins& row_bins,
                              Word target, CutBy by, Word* words, const CutShared& shared) {
  Crossing at = FindCrossing(row_bins, kBins, 0, 0, target, by, words, shared.crossing);
  Word low = LowestKeyOfBin(scale, at.bin);
  Word high = at.bin > 0 ? LowestKeyOfBin(scale, at.bin - 1) : KeyOf(scale.max, 0) + 1;
  while (at.count > 1) {
    int shift = 0;
    while ((high - 1 - low) >> shift >= kCutBins) ++shift;
    FillBins(logits, scale, low, high, shift, shared.bins);
    at = FindCrossing(shared.bins, kCutBins, at.count_before, at.mass_before, target, by, words,
                      shared.crossing);
    const Word end = high - (static_cast<Word>(at.bin) << shift);
    const Word begin = high - min(static_cast<Word>(at.bin + 1) << shift, high - low);
    low = begin;
    high = end;
  }
  return {low, at.mass_before + at.mass};
}

}  // namespace tandem::kernels::cuda

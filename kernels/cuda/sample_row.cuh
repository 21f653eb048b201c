// One row's logits as sample.cu sees them: an order of tokens in which no two are equal, and masses
// that are integers, so that sums come out the same in any order and on any grid.
#pragma once

#include <cstdint>

#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

inline constexpr int kIdBits = 18;
static_assert(kMaxVocab == 1 << kIdBits);
inline constexpr float kMassOfOne = 17592186044416.0f;  // 2^44: kMaxVocab of them fit a Word

// Ascending with the float; -0 counts as 0. Not for NaN.
__device__ inline uint32_t OrderedBits(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ inline float FromOrderedBits(uint32_t ordered) {
  return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

// Greater keys are more likely; equal logits by lower id. Never 0.
__device__ inline Word KeyOf(float logit, int32_t id) {
  return Word{OrderedBits(logit)} << kIdBits | static_cast<Word>(kMaxVocab - 1 - id);
}
__device__ inline int32_t IdOf(Word key) {
  return kMaxVocab - 1 - static_cast<int32_t>(key & (kMaxVocab - 1));
}
__device__ inline float LogitOf(Word key) {
  return FromOrderedBits(static_cast<uint32_t>(key >> kIdBits));
}

// What changes a token's logit, in 16 bits: times in the output (at most 16383 are told apart),
// whether it is in the prompt, and whether it has a bias.
inline constexpr uint32_t kInPrompt = 0x8000, kBiased = 0x4000, kMostTimes = 0x3fff;

// The logits of one row, scaled; NaN is minus infinity. With `counts`, biased, penalized and masked
// as sampling.h says.
class RowLogits {
 public:
  __device__ RowLogits(const Logits& logits, int row) : logits_(logits), row_(row) {}
  __device__ RowLogits(const Logits& logits, int row, const SamplingParams& params,
                       const uint16_t* counts)
      : logits_(logits), row_(row), counts_(counts), params_(&params) {}

  __device__ int32_t vocab() const { return logits_.vocab; }

  __device__ float operator()(int32_t id) const {
    int32_t part = 0;
    if (logits_.parts > 1) {
      part = static_cast<int32_t>(static_cast<uint32_t>(id) /
                                  static_cast<uint32_t>(logits_.part_cols));
    }
    const int64_t row = int64_t{part} * logits_.rows + row_;
    // Adjusted() adds to it: the same bits in all kernels, as there.
    float logit = __fmul_rn(
        logits_.scale, logits_.data[row * logits_.part_cols + (id - part * logits_.part_cols)]);
    if (counts_ != nullptr) logit = Adjusted(logit, id, counts_[id]);
    return logit == logit ? logit : -INFINITY;
  }

 private:
  // The same bits in all kernels: nothing is left to be contracted to a fused multiply-add.
  __device__ float Adjusted(float logit, int32_t id, uint32_t count) const {
    if (params_->mask != nullptr && !params_->allows(id)) return -INFINITY;
    if (count == 0) return logit;
    if ((count & kBiased) != 0) logit = Biased(logit, id);
    if ((count & ~kBiased) == 0) return logit;
    const float repetition = params_->repetition_penalty;
    logit = logit > 0 ? logit / repetition : logit * repetition;
    const auto times = static_cast<float>(count & kMostTimes);
    logit = __fsub_rn(logit, __fmul_rn(params_->frequency_penalty, times));
    return times > 0 ? logit - params_->presence_penalty : logit;
  }
  __device__ float Biased(float logit, int32_t id) const {
    int32_t low = 0, high = params_->num_biases;  // the first of this token lies between
    while (low < high) {
      const int32_t middle = low + (high - low) / 2;
      if (params_->biases[middle].token < id) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    for (; low < params_->num_biases && params_->biases[low].token == id; ++low) {
      if (params_->applies(params_->biases[low])) logit += params_->biases[low].bias;
    }
    return logit;
  }

  const Logits& logits_;
  const int row_;
  const uint16_t* const counts_ = nullptr;        // [V]
  const SamplingParams* const params_ = nullptr;  // with counts_; outlives this
};

// Softmax at a temperature, relative to the most likely token, whose probability is 1 here.
struct Scale {
  float max = 0;  // finite
  float inverse_temperature = 1;

  __device__ float Exponent(float logit) const { return (logit - max) * inverse_temperature; }
  __device__ float Probability(float logit) const { return expf(Exponent(logit)); }
};

__device__ inline Word MassOf(float probability) {
  return static_cast<Word>(probability * kMassOfOne);
}

// Bins of a row, eight a nat below the most likely token; the last takes all that is left. A
// logit's bin never ascends with the logit, so bins are ranges of keys.
inline constexpr int kBins = 256;
__device__ inline int BinOf(const Scale& scale, float logit) {
  return static_cast<int>(fminf(-8.0f * scale.Exponent(logit), kBins - 1));
}

// The lowest key of `bin` or of those before it: found by bisection, with BinOf itself, so that no
// rounding puts a token on the wrong side.
__device__ inline Word LowestKeyOfBin(const Scale& scale, int bin) {
  uint32_t low = OrderedBits(-INFINITY), high = OrderedBits(scale.max);
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (BinOf(scale, FromOrderedBits(middle)) <= bin) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return Word{low} << kIdBits;
}

}  // namespace tandem::kernels::cuda

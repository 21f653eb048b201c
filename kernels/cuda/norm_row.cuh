// RMSNorm of one row by one block, the row held in registers: for rms_norm.cu and all_reduce.cu.
// A row's order of additions depends on H alone, so that both give the same bits.
#pragma once

#include <type_traits>

#include "common/check.h"
#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

inline constexpr int kMaxNormThreads = 1024;

// Threads of a block for rows of H: each holds as few packs of eight as will do.
constexpr int NormThreads(int64_t cols) {
  const int64_t packs = cols / kPackElements;
  const int64_t per_thread = packs <= kMaxNormThreads ? 1 : 2;
  return static_cast<int>(RoundUp(CeilDiv(packs, per_thread), kWarp));
}

// Calls f(std::integral_constant<int, N>) with the packs a thread holds: 1 or 2; more would not fit
// the registers that 1024 threads have.
template <class F>
void ForPacks(int64_t cols, F&& f) {
  static_assert(kMaxNormCols == int64_t{2} * kMaxNormThreads * kPackElements);
  TANDEM_CHECK(cols > 0 && cols <= kMaxNormCols) << cols << " columns in a norm";
  if (cols <= int64_t{kMaxNormThreads} * kPackElements) {
    f(std::integral_constant<int, 1>{});
  } else {
    f(std::integral_constant<int, 2>{});
  }
}

// A row of float32 in the registers of a block: pack p of thread t is columns
// [8 * (p * threads + t), + 8); those past the end are zero.
template <int kPacks>
struct NormRow {
  float x[kPacks][kPackElements];

  __device__ static int Col(int pack) {
    return static_cast<int>(pack * blockDim.x + threadIdx.x) * kPackElements;
  }

  template <class T>
  __device__ void Load(const T* row, int cols) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (Col(p) < cols) {
        Load8(x[p], row + Col(p));
      } else {
#pragma unroll
        for (float& value : x[p]) value = 0;
      }
    }
  }

  template <class T>
  __device__ void Store(T* row, int cols) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      if (Col(p) < cols) Store8(row + Col(p), x[p]);
    }
  }

  __device__ void Add(const NormRow& other) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (int i = 0; i < kPackElements; ++i) x[p][i] += other.x[p][i];
    }
  }

  // this = this / sqrt(mean(this^2) + eps) * weight.
  __device__ void Normalize(const NormRow& weight, int cols, float eps, float* shared) {
    float sum = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (float value : x[p]) sum += value * value;
    }
    const float scale = 1.0f / sqrtf(BlockSum(sum, shared) / static_cast<float>(cols) + eps);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
#pragma unroll
      for (int i = 0; i < kPackElements; ++i) x[p][i] = x[p][i] * scale * weight.x[p][i];
    }
  }
};

}  // namespace tandem::kernels::cuda

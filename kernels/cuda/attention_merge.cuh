// The second kernel of attention.cuh, for sequences whose units several blocks attended to.
#pragma once

#include <cmath>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_stages.cuh"
#include "kernels/cuda/block_reduce.cuh"
#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda::attention {

// One unit of a row: what Fold makes of its maximum, and its sum.
struct alignas(16) MergeUnit {
  FoldFactors factors;
  float sum;
};

// The units of a round, a lane each; of those that are not there, which fold to nothing, `max` is
// -infinity. `before`: the maximum of all units before, of all units then.
__device__ inline void PrepareUnits(MergeUnit* units, float max, float sum, float& before) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float up_to = max;  // the maximum of the units up to the lane's
#pragma unroll
  for (int d = 1; d < kWarp; d *= 2) {
    const float other = __shfl_up_sync(0xffffffffu, up_to, d);
    if (lane >= d) up_to = fmaxf(up_to, other);
  }
  const float left = __shfl_up_sync(0xffffffffu, up_to, 1);
  units[lane] = {FactorsOf(lane == 0 ? before : fmaxf(before, left), max), sum};
  before = fmaxf(before, __shfl_sync(0xffffffffu, up_to, kWarp - 1));
}

// Folds partial results as AttendDecode would have: one block a token and head, a thread a column.
// A long context is a long chain of additions: so that it is not also one of loads and powers of 2,
// a round's columns are on their way at once, and its powers are found by a lane each. Every warp
// has its own, and waits for no other.
template <class T, int D>
__global__ void __launch_bounds__(D) MergeKernel(const __grid_constant__ Args args) {
  constexpr int kRound = kWarp;  // units
  TANDEM_SHARED(MergeUnit, shared, [D]);
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int num_heads = args.num_kv_heads * args.group, column = static_cast<int>(threadIdx.x);
  const int lane = column % kWarp;
  MergeUnit* const units = shared + column / kWarp * kRound;
  const int count = *args.num_merges * num_heads;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    const AttentionMerge merge = args.merges[i / num_heads];
    const int head = i % num_heads;
    const int64_t step = int64_t{merge.stride} * num_heads * (D + 2);
    const float* from = args.partials + (int64_t{merge.first} * num_heads + head) * (D + 2);
    float out = 0, sum = 0, max = -INFINITY;
    for (int first = 0; first < merge.count; first += kRound) {
      float2 row = {-INFINITY, 0};
      if (first + lane < merge.count) {
        row = *reinterpret_cast<const float2*>(from + lane * step + D);
      }
      float o[kRound];
#pragma unroll
      for (int j = 0; j < kRound; ++j) {
        o[j] = first + j < merge.count ? from[column] : 0;
        from += step;
      }
      __syncwarp();  // the units of the round before are used
      PrepareUnits(units, row.x, row.y, max);
      __syncwarp();
#pragma unroll
      for (int j = 0; j < kRound; ++j) {
        out = FoldColumn(out, o[j], units[j].factors);
        sum = FoldColumn(sum, units[j].sum, units[j].factors);
      }
    }
    static_cast<T*>(args.out)[merge.row * args.out_stride + head * D + column] =
        FromFloat<T>(Finish(out, 1.0f / sum));
  }
}

}  // namespace tandem::kernels::cuda::attention

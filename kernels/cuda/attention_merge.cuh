// The second kernel of attention.cuh, for sequences whose units several blocks attended to.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/attention_fold.cuh"
#include "kernels/cuda/attention_stages.cuh"
#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda::attention {

// Folds partial results as AttendDecode would have: one block a token and head, a thread a column.
template <class T, int D>
__global__ void __launch_bounds__(D) MergeKernel(const __grid_constant__ Args args) {
  constexpr int kAhead = 8;  // loads under way
  DependentLaunchWait();
  DependentLaunchTrigger();
  const int num_heads = args.num_kv_heads * args.group, column = static_cast<int>(threadIdx.x);
  const int count = *args.num_merges * num_heads;
  for (int i = static_cast<int>(blockIdx.x); i < count; i += static_cast<int>(gridDim.x)) {
    const AttentionMerge merge = args.merges[i / num_heads];
    const int head = i % num_heads;
    const int64_t step = int64_t{merge.stride} * num_heads * (D + 2);
    const float* from = args.partials + (int64_t{merge.first} * num_heads + head) * (D + 2);
    float out = 0;
    RowState state;
    for (int first = 0; first < merge.count; first += kAhead) {
      float o[kAhead];
      float2 row[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j >= merge.count) break;
        o[j] = from[j * step + column];
        row[j] = *reinterpret_cast<const float2*>(from + j * step + D);
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j >= merge.count) break;
        const FoldFactors f = Fold(state, row[j].x, row[j].y);
        out = FoldColumn(out, o[j], f);
      }
      from += kAhead * step;
    }
    static_cast<T*>(args.out)[merge.row * args.out_stride + head * D + column] =
        FromFloat<T>(Finish(out, 1.0f / state.sum));
  }
}

}  // namespace tandem::kernels::cuda::attention

// How the units that a row sees become one result in attention.cuh: whoever meets them, in a
// block's registers or later, folds them by these, in ascending order, and so to the same bits.
#pragma once

#include <cmath>

#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda::attention {

// What is known of one row after some units.
struct RowState {
  float max = -INFINITY;
  float sum = 0;
};
struct FoldFactors {
  float keep, add;
};
// `before`: the maximum of the units before this one.
__device__ inline FoldFactors FactorsOf(float before, float unit_max) {
  const float max = fmaxf(before, unit_max);
  const float base = max == -INFINITY ? 0.0f : max;
  return {Exp2(before - base), Exp2(unit_max - base)};
}
__device__ inline float FoldColumn(float sum, float unit_sum, const FoldFactors& f) {
  return fmaf(sum, f.keep, unit_sum * f.add);
}
__device__ inline FoldFactors Fold(RowState& row, float unit_max, float unit_sum) {
  const FoldFactors f = FactorsOf(row.max, unit_max);
  row.sum = FoldColumn(row.sum, unit_sum, f);
  row.max = fmaxf(row.max, unit_max);
  return f;
}
// Never -0, which a unit that is not seen would turn to 0.
__device__ inline float Finish(float sum, float inverse) { return fmaf(sum, inverse, 0.0f); }

}  // namespace tandem::kernels::cuda::attention

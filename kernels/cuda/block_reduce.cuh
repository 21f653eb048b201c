// Sums, maxima and prefix sums over a block. For .cu files.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda {

inline constexpr int kWarp = 32;
inline constexpr int kMaxWarps = 32;

// The sum over the block's threads, the same bits in all of them, in an order that depends on the
// block's size alone. `shared`: [kMaxWarps], not used for anything else in the kernel. The block
// is whole warps; every thread calls.
__device__ inline float BlockSum(float x, float* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  x = WarpSum(x);
  if (warps == 1) return x;
  __syncthreads();  // of the call before
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return WarpSum(lane < warps ? shared[lane] : 0.0f);
}

// The same for integers, whose order does not matter.
using Word = unsigned long long;  // what atomicAdd and shuffles take

// `reduce`: of a warp. `shared`: [kMaxWarps], may be used by the next call.
template <class Reduce>
__device__ Word BlockReduce(Word x, Word* shared, Reduce reduce) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  x = reduce(x);
  __syncthreads();  // of the call before
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return reduce(lane < static_cast<int>(blockDim.x) / kWarp ? shared[lane] : Word{0});
}
__device__ inline Word BlockMax(Word x, Word* shared) {
  return BlockReduce(x, shared, [](Word y) { return WarpMax(y); });
}
__device__ inline Word BlockSum(Word x, Word* shared) {
  return BlockReduce(x, shared, [](Word y) { return WarpSum(y); });
}

// The sum of x over the threads before this one.
__device__ inline Word BlockSumBefore(Word x, Word* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const Word upto = WarpSumUpTo(x);
  __syncthreads();  // of the call before
  if (lane == kWarp - 1) shared[warp] = upto;
  __syncthreads();
  return WarpSum(lane < warp ? shared[lane] : Word{0}) + upto - x;
}

}  // namespace tandem::kernels::cuda

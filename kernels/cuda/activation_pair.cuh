// Two activations in the 32 bits that a tensor core takes, the first in the low half.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"

namespace tandem::kernels::cuda {

__device__ inline uint32_t PairBits(__nv_bfloat162 pair) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(pair.y)) << 16 | __bfloat16_as_ushort(pair.x);
}
__device__ inline uint32_t PairBits(__half2 pair) {
  return static_cast<uint32_t>(__half_as_ushort(pair.y)) << 16 | __half_as_ushort(pair.x);
}

__device__ inline __nv_bfloat162 FromPairBits(uint32_t bits, Bf16) {
  return {__ushort_as_bfloat16(static_cast<unsigned short>(bits)),
          __ushort_as_bfloat16(static_cast<unsigned short>(bits >> 16))};
}
__device__ inline __half2 FromPairBits(uint32_t bits, F16) {
  return {__ushort_as_half(static_cast<unsigned short>(bits)),
          __ushort_as_half(static_cast<unsigned short>(bits >> 16))};
}

template <class T>
__device__ uint32_t Pair(float low, float high) {
  if constexpr (std::is_same_v<T, Bf16>) {
    return PairBits(__floats2bfloat162_rn(low, high));
  } else {
    return PairBits(__floats2half2_rn(low, high));
  }
}

template <class T>
__device__ void StorePair(T* to, uint32_t pair) {
  *reinterpret_cast<uint32_t*>(to) = pair;
}

}  // namespace tandem::kernels::cuda

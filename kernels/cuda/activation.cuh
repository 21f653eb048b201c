// Activations in memory: 16 bytes at a time, computed in float32. For .cu files.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "common/check.h"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

using Bf16 = __nv_bfloat16;
using F16 = __half;

__host__ __device__ inline float ToFloat(float x) { return x; }
__host__ __device__ inline float ToFloat(Bf16 x) { return __bfloat162float(x); }
__host__ __device__ inline float ToFloat(F16 x) { return __half2float(x); }

template <class T>
__host__ __device__ inline T FromFloat(float x);
template <>
__host__ __device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__host__ __device__ inline Bf16 FromFloat<Bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__host__ __device__ inline F16 FromFloat<F16>(float x) {
  return __float2half_rn(x);
}

// What one thread moves at once.
inline constexpr int kPackElements = 8;

template <class T>
struct alignas(16) Pack {
  T v[16 / sizeof(T)];
};

template <class T>
__device__ inline Pack<T> Rounded(const float (&x)[8]) {
  Pack<T> pack;
#pragma unroll
  for (int i = 0; i < 8; ++i) pack.v[i] = FromFloat<T>(x[i]);
  return pack;
}

// Eight consecutive elements; `from` and `to` aligned to 16 bytes.
__device__ inline void Load8(float (&x)[8], const float* from) {
  const auto low = *reinterpret_cast<const Pack<float>*>(from);
  const auto high = *reinterpret_cast<const Pack<float>*>(from + 4);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[i] = low.v[i];
    x[4 + i] = high.v[i];
  }
}
template <class T>
__device__ inline void Load8(float (&x)[8], const T* from) {
  const auto pack = *reinterpret_cast<const Pack<T>*>(from);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = ToFloat(pack.v[i]);
}
__device__ inline void Store8(float* to, const float (&x)[8]) {
  Pack<float> low, high;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    low.v[i] = x[i];
    high.v[i] = x[4 + i];
  }
  *reinterpret_cast<Pack<float>*>(to) = low;
  *reinterpret_cast<Pack<float>*>(to + 4) = high;
}
template <class T>
__device__ inline void Store8(T* to, const float (&x)[8]) {
  *reinterpret_cast<Pack<T>*>(to) = Rounded<T>(x);
}

// Calls f(T{}) with the element type of `type`.
template <class F>
void ForType(ActivationType type, F&& f) {
  if (type == ActivationType::kBf16) {
    f(Bf16{});
  } else {
    f(F16{});
  }
}

// The contract of Matrix in ops.h.
inline void CheckMatrix(const Matrix& m, int64_t rows, int64_t cols, ActivationType type) {
  TANDEM_CHECK(m.rows == rows && m.cols == cols && m.type == type)
      << m.rows << " x " << m.cols << ", not " << rows << " x " << cols;
  TANDEM_CHECK(m.cols % kPackElements == 0 && m.stride % kPackElements == 0 &&
               (m.rows <= 1 || m.stride >= m.cols) && reinterpret_cast<uintptr_t>(m.data) % 16 == 0)
      << m.cols << " columns, stride " << m.stride;
}

}  // namespace tandem::kernels::cuda

// A tile of quantized weights in the registers of a warp, as quant_layout.h packs it, and the way
// from there to the 16-bit floats that a tensor core takes. For quant_matmul.cuh.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/activation_pair.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/quant_layout.h"

namespace tandem::kernels::cuda::quant {

// A lane's part of one tile, as it lies in memory.
template <WeightType kType>
struct Tile {
  static constexpr bool kBytes = kType == WeightType::kQ8_0;
  static constexpr bool kOffset = kType == WeightType::kQ4_1;
  using Scales = std::conditional_t<kOffset, uint4, uint2>;
  uint4 quants[kBytes ? 2 : 1];
  Scales scales;  // halfs of rows g and g + 8: two blocks each, with kOffset d and m

  __device__ void Load(const unsigned char* from) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    quants[0] = *reinterpret_cast<const uint4*>(from + 16 * lane);
    if constexpr (kBytes) quants[1] = *reinterpret_cast<const uint4*>(from + 512 + 16 * lane);
    scales = *reinterpret_cast<const Scales*>(from + QuantTileQuantBytes(kType) +
                                              lane / 4 * sizeof(Scales));
  }
};

__device__ inline float HalfBits(uint32_t bits) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits & 0xffffu)));
}

// Scale and offset of the lane's two rows for one block.
template <WeightType kType>
__device__ void ScalesOf(float (&d)[2], float (&m)[2], const Tile<kType>& tile, int block) {
  if constexpr (Tile<kType>::kOffset) {
    const uint32_t low = block == 0 ? tile.scales.x : tile.scales.y;
    const uint32_t high = block == 0 ? tile.scales.z : tile.scales.w;
    d[0] = HalfBits(low);
    m[0] = HalfBits(low >> 16);
    d[1] = HalfBits(high);
    m[1] = HalfBits(high >> 16);
  } else {
    d[0] = HalfBits(tile.scales.x >> 16 * block);
    d[1] = HalfBits(tile.scales.y >> 16 * block);
  }
}

// The pairs of 16-bit floats a - b, exact here.
template <class T>
__device__ uint32_t SubtractPairs(uint32_t a, uint32_t b) {
  return PairBits(__hsub2(FromPairBits(a, T{}), FromPairBits(b, T{})));
}

// A number put into the low bits of 128 (bf16) or 1024 (fp16) adds to it; then that is subtracted.

// Two 4-bit quants, at bits 0 and 16, less 8 or as they are.
template <bool kSigned>
__device__ inline uint32_t FromNibbles(uint32_t pair, Bf16) {
  return SubtractPairs<Bf16>(pair | 0x43004300u, kSigned ? 0x43084308u : 0x43004300u);
}
template <bool kSigned>
__device__ inline uint32_t FromNibbles(uint32_t pair, F16) {
  return SubtractPairs<F16>(pair | 0x64006400u, kSigned ? 0x64086408u : 0x64006400u);
}
// Two int8 quants in the low bytes of the halves. bf16 has 7 bits for them: the sign, which counts
// -128, makes 128 to 256 in what is subtracted.
__device__ inline uint32_t FromBytes(uint32_t pair, Bf16) {
  return SubtractPairs<Bf16>((pair & 0x007f007fu) | 0x43004300u,
                             (pair & 0x00800080u) | 0x43004300u);
}
__device__ inline uint32_t FromBytes(uint32_t pair, F16) {
  return SubtractPairs<F16>((pair ^ 0x00800080u) | 0x64006400u, 0x64806480u);
}

// The lane's part of the weights of 16 columns: step 0 or 1 of a block.
template <WeightType kType, class T>
__device__ void Weights(uint32_t (&a)[4], const Tile<kType>& tile, int block, int step) {
  if constexpr (Tile<kType>::kBytes) {
    const uint4& q = tile.quants[block];
    const uint32_t low = step == 0 ? q.x : q.z, high = step == 0 ? q.y : q.w;
    a[0] = FromBytes(low & 0x00ff00ffu, T{});
    a[1] = FromBytes(low >> 8 & 0x00ff00ffu, T{});
    a[2] = FromBytes(high & 0x00ff00ffu, T{});
    a[3] = FromBytes(high >> 8 & 0x00ff00ffu, T{});
  } else {
    const uint4& q = tile.quants[0];
    const uint32_t word = block == 0 ? (step == 0 ? q.x : q.y) : (step == 0 ? q.z : q.w);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = FromNibbles<kType == WeightType::kQ4_0>(word >> 4 * i & 0x000f000fu, T{});
    }
  }
}

}  // namespace tandem::kernels::cuda::quant

// The int8 product with the 256-bit vpdpbusd of AVX-VNNI, for CPUs that have it without AVX-512:
// weights unsigned, activations signed, two halves of a panel's 16 rows.

#include "kernels/cpu/avx2/simd.h"
// Above: the lanes that the code below is made of.
#include "kernels/cpu/prefetch.inc"

namespace tandem::kernels::cpu {
namespace {

struct Sum {
  __m256i lo, hi;  // rows 0-7 and 8-15 of a panel
};

TANDEM_SIMD __m256i LoadBytes(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}

// In assembly as in avx512/matmul_int8.cc: it keeps sums in registers.
TANDEM_SIMD __m256i Dot(__m256i acc, __m256i weights, __m256i x) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(weights), "x"(x));
  return acc;
}

template <PanelFormat kFormat>
TANDEM_SIMD Sum UnpackStep(const uint8_t* q, int j) {
  if constexpr (kFormat == PanelFormat::kQ8_0) {
    return {LoadBytes(q + 64 * j), LoadBytes(q + 64 * j + 32)};
  }
  const __m256i mask = _mm256_set1_epi8(15);
  const int64_t at = int64_t{64} * (j % 4);
  __m256i lo = LoadBytes(q + at), hi = LoadBytes(q + at + 32);
  if (j >= 4) {
    lo = _mm256_srli_epi16(lo, 4);
    hi = _mm256_srli_epi16(hi, 4);
  }
  return {_mm256_and_si256(lo, mask), _mm256_and_si256(hi, mask)};
}

template <PanelFormat kFormat>
TANDEM_SIMD int32_t InitialSum(const QuantizedBlock& x) {
  if constexpr (kFormat == PanelFormat::kQ4_0) return x.c8;
  if constexpr (kFormat == PanelFormat::kQ8_0) return x.c128;
  return 0;
}

template <PanelFormat kFormat, int kRows>
TANDEM_SIMD void PanelRows(const uint8_t* panel, int64_t pairs, const uint8_t* x, int64_t x_stride,
                           Prefetch prefetch, float* tile) {
  using Pair = PairLayout<kFormat>;
  Vec acc[kRows];
  for (int r = 0; r < kRows; ++r) acc[r] = Zero();
  for (int64_t pair = 0; pair < pairs; ++pair) {
    PrefetchPair<Pair::kPairBytes>(panel, prefetch);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* q = panel + Pair::kScaleBytes + Pair::kBlockBytes * half;
      const auto in = [&](int r) -> const QuantizedBlock& {
        return reinterpret_cast<const QuantizedBlock*>(x + r * x_stride)[half];
      };
      Sum sums[kRows];
      for (int r = 0; r < kRows; ++r) {
        const __m256i start = _mm256_set1_epi32(InitialSum<kFormat>(in(r)));
        sums[r] = {start, start};
      }
      for (int j = 0; j < 8; ++j) {
        const Sum weights = UnpackStep<kFormat>(q, j);
        for (int r = 0; r < kRows; ++r) {
          int32_t four;
          __builtin_memcpy(&four, in(r).q + 4 * j, sizeof four);
          const __m256i xs = _mm256_set1_epi32(four);
          sums[r] = {Dot(sums[r].lo, weights.lo, xs), Dot(sums[r].hi, weights.hi, xs)};
        }
      }
      const Vec d = LoadHalfs(panel + 32 * half);
      const Vec m = Pair::kHasMin ? LoadHalfs(panel + 64 + 32 * half) : Zero();
      for (int r = 0; r < kRows; ++r) {
        const Vec dot = {_mm256_cvtepi32_ps(sums[r].lo), _mm256_cvtepi32_ps(sums[r].hi)};
        acc[r] = Fma(dot, Mul(d, Broadcast(in(r).d)), acc[r]);
        if constexpr (Pair::kHasMin) acc[r] = Fma(m, Broadcast(in(r).s), acc[r]);
      }
    }
    panel += Pair::kPairBytes;
    x += 2 * sizeof(QuantizedBlock);
  }
  for (int r = 0; r < kRows; ++r) Store(tile + 16 * r, acc[r]);
}

}  // namespace
}  // namespace tandem::kernels::cpu

#include "kernels/cpu/matmul_int8.inc"

namespace tandem::kernels::cpu {
namespace {

void MatMul(const MatMulJob& job) {
  WithInt8Format(job.format, [&]<PanelFormat kFormat>() { MatMulPanels<kFormat>(job); });
}

}  // namespace

namespace avx_vnni {
extern const decltype(KernelTable::matmul_int8) kMatMulInt8 = MatMul;
}

}  // namespace tandem::kernels::cpu

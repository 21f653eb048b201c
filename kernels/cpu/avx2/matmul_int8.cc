// The int8 product without VNNI: vpmaddubsw multiplies unsigned weights with signed activations and
// adds pairs in int16. Nibbles: all eight pairs of a block fit int16 (8 * 2 * 15 * 127 = 30,480),
// so they are widened once a block. Bytes: |w| and x with w's sign, widened every step (2 * 128 *
// 127 = 32,512 fits).

#include "kernels/cpu/avx2/simd.h"
// Above: the lanes that the code below is made of.
#include "kernels/cpu/prefetch.inc"

namespace tandem::kernels::cpu {
namespace {

struct Sum {
  __m256i lo, hi;  // rows 0-7 and 8-15 of a panel
};

TANDEM_SIMD __m256i BroadcastFour(const int8_t* x) {
  return _mm256_castps_si256(_mm256_broadcast_ss(reinterpret_cast<const float*>(x)));
}
TANDEM_SIMD __m256i LoadBytes(const uint8_t* p) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
}
TANDEM_SIMD __m256i Widen(__m256i words) { return _mm256_madd_epi16(words, _mm256_set1_epi16(1)); }
TANDEM_SIMD const QuantizedBlock& BlockOf(const uint8_t* x, int64_t x_stride, int row) {
  return *reinterpret_cast<const QuantizedBlock*>(x + row * x_stride);
}

// sums[r] = Σ nibble * q, as int32.
template <int kRows>
TANDEM_SIMD void DotNibbles(const uint8_t* q, const uint8_t* x, int64_t x_stride, Sum* sums) {
  const __m256i mask = _mm256_set1_epi8(15);
  for (int r = 0; r < kRows; ++r) sums[r] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int j = 0; j < 4; ++j) {
    const __m256i lo = LoadBytes(q + 64 * j), hi = LoadBytes(q + 64 * j + 32);
    const __m256i lo0 = _mm256_and_si256(lo, mask), hi0 = _mm256_and_si256(hi, mask);
    const __m256i lo1 = _mm256_and_si256(_mm256_srli_epi16(lo, 4), mask);
    const __m256i hi1 = _mm256_and_si256(_mm256_srli_epi16(hi, 4), mask);
    for (int r = 0; r < kRows; ++r) {
      const int8_t* in = BlockOf(x, x_stride, r).q + 4 * j;
      const __m256i x0 = BroadcastFour(in), x1 = BroadcastFour(in + 16);
      sums[r].lo = _mm256_add_epi16(sums[r].lo, _mm256_maddubs_epi16(lo0, x0));
      sums[r].hi = _mm256_add_epi16(sums[r].hi, _mm256_maddubs_epi16(hi0, x0));
      sums[r].lo = _mm256_add_epi16(sums[r].lo, _mm256_maddubs_epi16(lo1, x1));
      sums[r].hi = _mm256_add_epi16(sums[r].hi, _mm256_maddubs_epi16(hi1, x1));
    }
  }
  for (int r = 0; r < kRows; ++r) sums[r] = {Widen(sums[r].lo), Widen(sums[r].hi)};
}

TANDEM_SIMD __m256i DotSigned(__m256i acc, __m256i weights, __m256i x) {
  const __m256i words =
      _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights));
  return _mm256_add_epi32(acc, Widen(words));
}

template <int kRows>
TANDEM_SIMD void DotBytes(const uint8_t* q, const uint8_t* x, int64_t x_stride, Sum* sums) {
  const __m256i bias = _mm256_set1_epi8(-128);
  for (int r = 0; r < kRows; ++r) sums[r] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  for (int j = 0; j < 8; ++j) {
    const __m256i lo = _mm256_xor_si256(LoadBytes(q + 64 * j), bias);
    const __m256i hi = _mm256_xor_si256(LoadBytes(q + 64 * j + 32), bias);
    for (int r = 0; r < kRows; ++r) {
      const __m256i in = BroadcastFour(BlockOf(x, x_stride, r).q + 4 * j);
      sums[r] = {DotSigned(sums[r].lo, lo, in), DotSigned(sums[r].hi, hi, in)};
    }
  }
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
      Sum sums[kRows];
      const uint8_t* q = panel + Pair::kScaleBytes + Pair::kBlockBytes * half;
      if constexpr (kFormat == PanelFormat::kQ8_0) {
        DotBytes<kRows>(q, x, x_stride, sums);
      } else {
        DotNibbles<kRows>(q, x, x_stride, sums);
      }
      const Vec d = LoadHalfs(panel + 32 * half);
      const Vec m = Pair::kHasMin ? LoadHalfs(panel + 64 + 32 * half) : Zero();
      for (int r = 0; r < kRows; ++r) {
        const QuantizedBlock& in = BlockOf(x, x_stride, r);
        if constexpr (kFormat == PanelFormat::kQ4_0) {
          const __m256i c = _mm256_set1_epi32(in.c8);
          sums[r] = {_mm256_add_epi32(sums[r].lo, c), _mm256_add_epi32(sums[r].hi, c)};
        }
        const Vec dot = {_mm256_cvtepi32_ps(sums[r].lo), _mm256_cvtepi32_ps(sums[r].hi)};
        acc[r] = Fma(dot, Mul(d, Broadcast(in.d)), acc[r]);
        if constexpr (Pair::kHasMin) acc[r] = Fma(m, Broadcast(in.s), acc[r]);
      }
      x += sizeof(QuantizedBlock);
    }
    panel += Pair::kPairBytes;
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

namespace avx2 {
extern const decltype(KernelTable::matmul_int8) kMatMulInt8 = MatMul;
}

}  // namespace tandem::kernels::cpu

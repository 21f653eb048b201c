// Sixteen float lanes in one AVX-512 register. Only for files compiled with AVX-512 flags;
// everything is local to the file that includes it.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"

namespace tandem::kernels::cpu {
namespace {

#define TANDEM_SIMD [[gnu::always_inline, maybe_unused]] inline

inline constexpr int kRowTile = 8;   // rows whose accumulators fit the registers
inline constexpr int kLineTile = 2;  // lines of 16 at once for each of these rows

using Vec = __m512;

TANDEM_SIMD Vec Zero() { return _mm512_setzero_ps(); }
TANDEM_SIMD Vec Load(const float* p) { return _mm512_loadu_ps(p); }
TANDEM_SIMD void Store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
TANDEM_SIMD __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }
TANDEM_SIMD void StoreFirst(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, FirstLanes(n), v); }
TANDEM_SIMD Vec Broadcast(float x) { return _mm512_set1_ps(x); }
TANDEM_SIMD Vec Add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
TANDEM_SIMD Vec Sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
TANDEM_SIMD Vec Mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
TANDEM_SIMD Vec Div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
TANDEM_SIMD Vec Fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
// The second operand if either is NaN.
TANDEM_SIMD Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
TANDEM_SIMD Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
TANDEM_SIMD Vec SelectFirst(Vec a, Vec b, int n) {  // a in the first n lanes, b in the others
  return _mm512_mask_blend_ps(FirstLanes(n), b, a);
}
TANDEM_SIMD Vec Round(Vec a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for integral n in [-126, 127].
TANDEM_SIMD Vec Scale2(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }
// A float whose exponent bits are the lowest 8 bits of a's.
TANDEM_SIMD Vec ExponentFromLowBits(Vec a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
TANDEM_SIMD Vec LoadHalfs(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
TANDEM_SIMD Vec LoadBfs(const uint8_t* p) {
  const __m256i bfs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bfs), 16));
}
// (c0, s0, c1, s1, ...): (a0 c0 - a1 s0, a1 c0 + a0 s0, ...).
TANDEM_SIMD Vec RotatePairs(Vec a, Vec cos_sin) {
  const Vec swapped = _mm512_permute_ps(a, 0xB1);
  return _mm512_fmaddsub_ps(a, _mm512_moveldup_ps(cos_sin),
                            _mm512_mul_ps(swapped, _mm512_movehdup_ps(cos_sin)));
}
// 16 pairs of bf16: the first and the second of each pair.
struct BfPairs {
  Vec first, second;
};
TANDEM_SIMD BfPairs LoadBfPairs(const uint8_t* p) {
  const __m512i both = _mm512_loadu_si512(p);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
          _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536)))};
}
// 16 lanes of 4 int8 as two lines of bf16 pairs, the first two of each lane and the last two, all
// of them times 2^24: an int8 in the upper byte of an int32 needs no sign extension, and the float
// of it has no bits but bf16's.
TANDEM_SIMD __m512i Int8PairToBf16(__m512i first, __m512i second) {
  const __m512i low = _mm512_castps_si512(_mm512_cvtepi32_ps(first));
  const __m512i high = _mm512_castps_si512(_mm512_cvtepi32_ps(second));
  return _mm512_or_si512(_mm512_srli_epi32(low, 16), high);
}
TANDEM_SIMD void Int8ToBf16(const uint8_t* from, uint8_t* to) {
  const __m512i x = _mm512_loadu_si512(from);
  const __m512i upper = _mm512_set1_epi32(-16777216);
  _mm512_storeu_si512(to, Int8PairToBf16(_mm512_slli_epi32(x, 24),
                                         _mm512_and_si512(_mm512_slli_epi32(x, 16), upper)));
  _mm512_storeu_si512(to + 64, Int8PairToBf16(_mm512_and_si512(_mm512_slli_epi32(x, 8), upper),
                                              _mm512_and_si512(x, upper)));
}
// Bytes as floats: nibbles of 64 packed bytes and so on are dequantized through these.
TANDEM_SIMD Vec BytesToFloats(__m128i bytes) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
}
TANDEM_SIMD void Halves(Vec v, __m256* low, __m256* high) {
  *low = _mm512_castps512_ps256(v);
  *high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
}

}  // namespace
}  // namespace tandem::kernels::cpu

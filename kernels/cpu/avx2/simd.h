// Sixteen float lanes in two AVX2 registers. Only for files compiled with AVX2 flags; everything is
// local to the file that includes it.
#pragma once

#include <immintrin.h>

#include "kernels/cpu/kernel_table.h"

namespace tandem::kernels::cpu {
namespace {

#define TANDEM_SIMD [[gnu::always_inline, maybe_unused]] inline

inline constexpr int kRowTile = 4;   // rows whose accumulators fit the registers
inline constexpr int kLineTile = 1;  // lines of 16 at once for each of these rows

struct Vec {
  __m256 lo, hi;
};

TANDEM_SIMD Vec Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
TANDEM_SIMD Vec Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
TANDEM_SIMD void Store(float* p, Vec v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
TANDEM_SIMD Vec FirstLanes(int n) {  // all ones in the first n lanes
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return {_mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes)),
          _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lanes))};
}
TANDEM_SIMD void StoreFirst(float* p, Vec v, int n) {
  const Vec mask = FirstLanes(n);
  _mm256_maskstore_ps(p, _mm256_castps_si256(mask.lo), v.lo);
  _mm256_maskstore_ps(p + 8, _mm256_castps_si256(mask.hi), v.hi);
}
TANDEM_SIMD Vec Broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
TANDEM_SIMD Vec Add(Vec a, Vec b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec Sub(Vec a, Vec b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec Mul(Vec a, Vec b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec Div(Vec a, Vec b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec Fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
// The second operand if either is NaN.
TANDEM_SIMD Vec Max(Vec a, Vec b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec Min(Vec a, Vec b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
TANDEM_SIMD Vec SelectFirst(Vec a, Vec b, int n) {  // a in the first n lanes, b in the others
  const Vec mask = FirstLanes(n);
  return {_mm256_blendv_ps(b.lo, a.lo, mask.lo), _mm256_blendv_ps(b.hi, a.hi, mask.hi)};
}
TANDEM_SIMD Vec Round(Vec a) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kMode), _mm256_round_ps(a.hi, kMode)};
}
// a * 2^n for integral n in [-126, 127].
TANDEM_SIMD __m256 Scale2Half(__m256 a, __m256 n) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}
TANDEM_SIMD Vec Scale2(Vec a, Vec n) { return {Scale2Half(a.lo, n.lo), Scale2Half(a.hi, n.hi)}; }
// A float whose exponent bits are the lowest 8 bits of a's.
TANDEM_SIMD Vec ExponentFromLowBits(Vec a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.lo), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.hi), 23))};
}
TANDEM_SIMD Vec LoadHalfs(const uint8_t* p) {
  const auto* halfs = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halfs)), _mm256_cvtph_ps(_mm_loadu_si128(halfs + 1))};
}
TANDEM_SIMD __m256 LoadBfsHalf(const uint8_t* p) {
  const __m128i bfs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bfs), 16));
}
TANDEM_SIMD Vec LoadBfs(const uint8_t* p) { return {LoadBfsHalf(p), LoadBfsHalf(p + 16)}; }
// (c0, s0, c1, s1, ...): (a0 c0 - a1 s0, a1 c0 + a0 s0, ...).
TANDEM_SIMD __m256 RotatePairsHalf(__m256 a, __m256 cos_sin) {
  const __m256 swapped = _mm256_permute_ps(a, 0xB1);
  return _mm256_fmaddsub_ps(a, _mm256_moveldup_ps(cos_sin),
                            _mm256_mul_ps(swapped, _mm256_movehdup_ps(cos_sin)));
}
TANDEM_SIMD Vec RotatePairs(Vec a, Vec cos_sin) {
  return {RotatePairsHalf(a.lo, cos_sin.lo), RotatePairsHalf(a.hi, cos_sin.hi)};
}
// 16 pairs of bf16: the first and the second of each pair.
struct BfPairs {
  Vec first, second;
};
TANDEM_SIMD BfPairs LoadBfPairs(const uint8_t* p) {
  const auto* pairs = reinterpret_cast<const __m256i*>(p);
  const __m256i lo = _mm256_loadu_si256(pairs), hi = _mm256_loadu_si256(pairs + 1);
  const __m256i upper = _mm256_set1_epi32(-65536);
  return {{_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
           _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))},
          {_mm256_castsi256_ps(_mm256_and_si256(lo, upper)),
           _mm256_castsi256_ps(_mm256_and_si256(hi, upper))}};
}
// 16 lanes of 4 int8 as two lines of bf16 pairs, the first two of each lane and the last two, all
// of them times 2^24: an int8 in the upper byte of an int32 needs no sign extension, and the float
// of it has no bits but bf16's.
TANDEM_SIMD __m256i Int8PairToBf16(__m256i first, __m256i second) {
  const __m256i low = _mm256_castps_si256(_mm256_cvtepi32_ps(first));
  const __m256i high = _mm256_castps_si256(_mm256_cvtepi32_ps(second));
  return _mm256_or_si256(_mm256_srli_epi32(low, 16), high);
}
TANDEM_SIMD void Int8ToBf16(const uint8_t* from, uint8_t* to) {
  const __m256i upper = _mm256_set1_epi32(-16777216);
  for (int half = 0; half < 2; ++half) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from) + half);
    auto* const lines = reinterpret_cast<__m256i*>(to) + half;
    _mm256_storeu_si256(lines, Int8PairToBf16(_mm256_slli_epi32(x, 24),
                                              _mm256_and_si256(_mm256_slli_epi32(x, 16), upper)));
    _mm256_storeu_si256(lines + 2, Int8PairToBf16(_mm256_and_si256(_mm256_slli_epi32(x, 8), upper),
                                                  _mm256_and_si256(x, upper)));
  }
}
// Bytes as floats.
TANDEM_SIMD Vec BytesToFloats(__m128i bytes) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}
TANDEM_SIMD void Halves(Vec v, __m256* low, __m256* high) {
  *low = v.lo;
  *high = v.hi;
}

}  // namespace
}  // namespace tandem::kernels::cpu

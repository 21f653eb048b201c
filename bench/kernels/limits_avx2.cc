#include <immintrin.h>

#include "bench/kernels/machine_limits.h"

namespace tandem::bench {

double ReadAvx2(const void* data, long long bytes) {
  const char* p = static_cast<const char*>(data);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (long long i = 0; i < bytes; i += 128) {
    _mm_prefetch(p + i + 4096, _MM_HINT_T0);
    _mm_prefetch(p + i + 4160, _MM_HINT_T0);
    const auto* v = reinterpret_cast<const __m256i*>(p + i);
    a = _mm256_xor_si256(a, _mm256_loadu_si256(v));
    b = _mm256_xor_si256(b, _mm256_loadu_si256(v + 1));
    c = _mm256_xor_si256(c, _mm256_loadu_si256(v + 2));
    d = _mm256_xor_si256(d, _mm256_loadu_si256(v + 3));
  }
  a = _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d));
  return static_cast<double>(_mm256_extract_epi32(a, 0) & 0xff);
}

void Int8Avx2(long long loops) {
  __m256i acc[8];
  const __m256i w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5), one = _mm256_set1_epi16(1);
  for (auto& a : acc) a = _mm256_setzero_si256();
  for (long long i = 0; i < loops; ++i) {
    for (auto& a : acc) {
      __m256i words = _mm256_maddubs_epi16(w, x);
      asm volatile("" : "+x"(words));  // not hoisted out of the loop
      a = _mm256_add_epi32(a, _mm256_madd_epi16(words, one));
    }
  }
  for (auto& a : acc) asm volatile("" : : "x"(a));
}

void F32Avx2(long long loops) {
  __m256 acc[10];
  const __m256 w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(0.25f);
  for (auto& a : acc) a = _mm256_setzero_ps();
  for (long long i = 0; i < loops; ++i) {
    for (auto& a : acc) a = _mm256_fmadd_ps(w, x, a);
  }
  for (auto& a : acc) asm volatile("" : : "x"(a));
}

}  // namespace tandem::bench

#include <immintrin.h>

#include "bench/kernels/machine_limits.h"

namespace tandem::bench {

void Int8Avx512(long long loops) {
  __m512i a[12];
  const __m512i w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
  for (auto& v : a) asm volatile("vpxorq %0, %0, %0" : "=v"(v));
  for (long long i = 0; i < loops; ++i) {
    for (auto& v : a) asm("vpdpbusd %2, %1, %0" : "+v"(v) : "v"(w), "v"(x));
  }
  for (auto& v : a) asm volatile("" : : "v"(v));
}

void F32Avx512(long long loops) {
  __m512 a[12];
  const __m512 w = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(0.25f);
  for (auto& v : a) v = _mm512_setzero_ps();
  for (long long i = 0; i < loops; ++i) {
    for (auto& v : a) v = _mm512_fmadd_ps(w, x, v);
  }
  for (auto& v : a) asm volatile("" : : "v"(v));
}

}  // namespace tandem::bench

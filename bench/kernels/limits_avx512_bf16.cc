#include <immintrin.h>

#include "bench/kernels/machine_limits.h"

namespace tandem::bench {

void Bf16Avx512(long long loops) {
  __m512 a[12];
  const __m512i w = _mm512_set1_epi16(0x3f00), x = _mm512_set1_epi16(0x3e80);  // 0.5, 0.25
  for (auto& v : a) asm volatile("vpxorq %0, %0, %0" : "=v"(v));
  for (long long i = 0; i < loops; ++i) {
    for (auto& v : a) asm("vdpbf16ps %2, %1, %0" : "+v"(v) : "v"(w), "v"(x));
  }
  for (auto& v : a) asm volatile("" : : "v"(v));
}

}  // namespace tandem::bench

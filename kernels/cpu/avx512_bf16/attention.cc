#include "kernels/cpu/avx512/simd.h"
// Above: the lanes that the loops below are made of.
#include "kernels/cpu/attention.inc"

namespace tandem::kernels::cpu {
namespace {

// Two products of bf16 a lane and instruction. Denormals count as zeros.
struct DotLines {
  using Left = uint16_t;
  using Line = __m512bh;
  static constexpr int kRows = 6, kLines = 4;
  static constexpr int kStep = 2, kElementBytes = 2, kExpDegree = 4;
  TANDEM_SIMD static Line LoadLine(const uint8_t* b) {
    return reinterpret_cast<__m512bh>(_mm512_loadu_si512(b));
  }
  TANDEM_SIMD static Line FirstOnly(Line line) {
    return reinterpret_cast<__m512bh>(
        _mm512_and_si512(reinterpret_cast<__m512i>(line), _mm512_set1_epi32(0xffff)));
  }
  TANDEM_SIMD static Vec MultiplyAdd(const Left* a, Line line, Vec sum) {
    int pair;
    __builtin_memcpy(&pair, a, sizeof(pair));
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair)), line);
  }
  TANDEM_SIMD static void StoreLeft(Left* to, Vec v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v)));
  }
};

}  // namespace
}  // namespace tandem::kernels::cpu

namespace tandem::kernels::cpu::avx512_bf16 {
extern const decltype(KernelTable::attention) kAttention = Attention<DotLines>;
}

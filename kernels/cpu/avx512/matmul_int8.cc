// The int8 product with vpdpbusd: weights unsigned, activations signed, both broadcast from memory.
// The dot is inline assembly because g++ 12 spills the accumulators of the intrinsic (CPU_KERNELS:
// 470-530 GOP/s with it, 863-873 with assembly, one Zen 5 core).

#include "kernels/cpu/avx512/simd.h"
// Above: the lanes that the code below is made of.
#include "kernels/cpu/prefetch.inc"

namespace tandem::kernels::cpu {
namespace {

struct Block {  // 32 columns of 16 rows, unpacked to bytes
  __m512i steps[8];
};

TANDEM_SIMD __m512i Dot(__m512i acc, __m512i weights, __m512i x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(weights), "v"(x));
  return acc;
}

TANDEM_SIMD __m512i Dot(__m512i acc, __m512i weights, const int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(acc)
      : "v"(weights), "m"(*reinterpret_cast<const int32_t*>(x)));
  return acc;
}

template <PanelFormat kFormat>
TANDEM_SIMD Block Unpack(const uint8_t* q) {
  Block block;
  if constexpr (kFormat == PanelFormat::kQ8_0) {
    for (int j = 0; j < 8; ++j) block.steps[j] = _mm512_load_si512(q + 64 * j);
  } else {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m512i both = _mm512_load_si512(q + 64 * j);
      block.steps[j] = _mm512_and_si512(both, low);
      block.steps[4 + j] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  }
  return block;
}

template <PanelFormat kFormat>
TANDEM_SIMD __m512i InitialSum(const QuantizedBlock& x) {
  if constexpr (kFormat == PanelFormat::kQ4_0) return _mm512_set1_epi32(x.c8);
  if constexpr (kFormat == PanelFormat::kQ8_0) return _mm512_set1_epi32(x.c128);
  return _mm512_setzero_si512();
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
      const Vec d = LoadHalfs(panel + 32 * half);
      const Vec m = Pair::kHasMin ? LoadHalfs(panel + 64 + 32 * half) : Zero();
      const Block block = Unpack<kFormat>(panel + Pair::kScaleBytes + Pair::kBlockBytes * half);
      const auto in = [&](int r) -> const QuantizedBlock& {
        return reinterpret_cast<const QuantizedBlock*>(x + r * x_stride)[half];
      };
      __m512i sums[kRows];
      for (int r = 0; r < kRows; ++r) sums[r] = InitialSum<kFormat>(in(r));
      // Sums of several rows by turns: eight dots of one, one after the other, each wait for the
      // one before.
      for (int j = 0; j < 8; ++j) {
        for (int r = 0; r < kRows; ++r) sums[r] = Dot(sums[r], block.steps[j], in(r).q + 4 * j);
      }
      for (int r = 0; r < kRows; ++r) {
        acc[r] = Fma(_mm512_cvtepi32_ps(sums[r]), Mul(d, Broadcast(in(r).d)), acc[r]);
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
// Above: panels, and how tiles are stored.
#include "kernels/cpu/avx512/matmul_int8_pair.inc"
// Above: how two panels are stored.
#include "kernels/cpu/avx512/matmul_int8_wide.inc"

namespace tandem::kernels::cpu {
namespace {

// One after the other up to eight rows: they are read as fast as memory gives them.
template <PanelFormat kFormat>
void MatMulFormat(const MatMulJob& job) {
  if (job.rows <= kRowTile) return MatMulPanels<kFormat>(job);
  MatMulJob rest = job;  // with an odd number of panels, the last
  rest.panel_begin = job.rows < kWideRows ? MatMulPairs<kFormat>(job) : MatMulWide<kFormat>(job);
  MatMulPanels<kFormat>(rest);
}

void MatMul(const MatMulJob& job) {
  WithInt8Format(job.format, [&]<PanelFormat kFormat>() { MatMulFormat<kFormat>(job); });
}

}  // namespace

namespace avx512 {
extern const decltype(KernelTable::matmul_int8) kMatMulInt8 = MatMul;
}

}  // namespace tandem::kernels::cpu

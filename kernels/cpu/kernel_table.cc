#include "kernels/cpu/kernel_table.h"

namespace tandem::kernels::cpu {

#define TANDEM_DECLARE_KERNELS(isa)                                       \
  namespace isa {                                                         \
  extern const decltype(KernelTable::quantize) kQuantize;                 \
  extern const decltype(KernelTable::matmul_int8) kMatMulInt8;            \
  extern const decltype(KernelTable::matmul_f32) kMatMulF32;              \
  extern const decltype(KernelTable::round_bf16_floats) kRoundBf16Floats; \
  extern const decltype(KernelTable::rms_norm) kRmsNorm;                  \
  extern const decltype(KernelTable::rotate_adjacent) kRotateAdjacent;    \
  extern const decltype(KernelTable::rotate_halves) kRotateHalves;        \
  extern const decltype(KernelTable::attention) kAttention;               \
  extern const SamplingKernels kSampling;                                 \
  extern const decltype(KernelTable::soft_cap) kSoftCap;                  \
  }

TANDEM_DECLARE_KERNELS(avx2)
TANDEM_DECLARE_KERNELS(avx512)
namespace avx_vnni {
extern const decltype(KernelTable::matmul_int8) kMatMulInt8;
}
namespace avx512_bf16 {
extern const decltype(KernelTable::attention) kAttention;
extern const decltype(KernelTable::round_bf16) kRoundBf16;
extern const decltype(KernelTable::matmul_bf16) kMatMulBf16;
}  // namespace avx512_bf16

KernelTable Avx2Kernels() {
  return {.quantize = avx2::kQuantize,
          .matmul_int8 = avx2::kMatMulInt8,
          .matmul_f32 = avx2::kMatMulF32,
          .round_bf16 = nullptr,
          .matmul_bf16 = nullptr,
          .round_bf16_floats = avx2::kRoundBf16Floats,
          .rms_norm = avx2::kRmsNorm,
          .rotate_adjacent = avx2::kRotateAdjacent,
          .rotate_halves = avx2::kRotateHalves,
          .attention = avx2::kAttention,
          .soft_cap = avx2::kSoftCap,
          .sampling = avx2::kSampling};
}

KernelTable AvxVnniKernels() {
  KernelTable table = Avx2Kernels();
  table.matmul_int8 = avx_vnni::kMatMulInt8;
  return table;
}

KernelTable Avx512Kernels() {
  return {.quantize = avx512::kQuantize,
          .matmul_int8 = avx512::kMatMulInt8,
          .matmul_f32 = avx512::kMatMulF32,
          .round_bf16 = nullptr,
          .matmul_bf16 = nullptr,
          .round_bf16_floats = avx512::kRoundBf16Floats,
          .rms_norm = avx512::kRmsNorm,
          .rotate_adjacent = avx512::kRotateAdjacent,
          .rotate_halves = avx512::kRotateHalves,
          .attention = avx512::kAttention,
          .soft_cap = avx512::kSoftCap,
          .sampling = avx512::kSampling};
}

KernelTable Avx512Bf16Kernels() {
  KernelTable table = Avx512Kernels();
  table.round_bf16 = avx512_bf16::kRoundBf16;
  table.matmul_bf16 = avx512_bf16::kMatMulBf16;
  table.attention = avx512_bf16::kAttention;
  return table;
}

}  // namespace tandem::kernels::cpu

#include "kernels/cpu/kernel_table.h"

namespace tandem::kernels::cpu {

#define TANDEM_DECLARE_KERNELS(isa)                                    \
  namespace isa {                                                      \
  extern const decltype(KernelTable::quantize) kQuantize;              \
  extern const decltype(KernelTable::matmul_int8) kMatMulInt8;         \
  extern const decltype(KernelTable::matmul_f32) kMatMulF32;           \
  extern const decltype(KernelTable::rms_norm) kRmsNorm;               \
  extern const decltype(KernelTable::rotate_adjacent) kRotateAdjacent; \
  extern const decltype(KernelTable::rotate_halves) kRotateHalves;     \
  extern const decltype(KernelTable::attention) kAttention;            \
  extern const decltype(KernelTable::soft_cap) kSoftCap;               \
  }

TANDEM_DECLARE_KERNELS(avx2)
TANDEM_DECLARE_KERNELS(avx512)

KernelTable Avx2Kernels() {
  return {avx2::kQuantize,       avx2::kMatMulInt8,   avx2::kMatMulF32, avx2::kRmsNorm,
          avx2::kRotateAdjacent, avx2::kRotateHalves, avx2::kAttention, avx2::kSoftCap};
}

KernelTable Avx512Kernels() {
  return {avx512::kQuantize,       avx512::kMatMulInt8,   avx512::kMatMulF32, avx512::kRmsNorm,
          avx512::kRotateAdjacent, avx512::kRotateHalves, avx512::kAttention, avx512::kSoftCap};
}

}  // namespace tandem::kernels::cpu

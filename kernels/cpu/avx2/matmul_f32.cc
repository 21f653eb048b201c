#include "kernels/cpu/avx2/simd.h"
// Above: the lanes that the loops below are made of.
#include "kernels/cpu/matmul_f32.inc"

namespace tandem::kernels::cpu::avx2 {
extern const decltype(KernelTable::matmul_f32) kMatMulF32 = MatMulF32;
}

#include "kernels/cpu/avx512/simd.h"
// Above: the lanes that the loops below are made of.
#include "kernels/cpu/avx512/quantize.inc"
#include "kernels/cpu/elementwise.inc"

namespace tandem::kernels::cpu::avx512 {
extern const decltype(KernelTable::quantize) kQuantize = Quantize;
extern const decltype(KernelTable::round_bf16_floats) kRoundBf16Floats = RoundBf16Floats;
extern const decltype(KernelTable::rms_norm) kRmsNorm = RmsNorm;
extern const decltype(KernelTable::rotate_adjacent) kRotateAdjacent = RotateAdjacent;
extern const decltype(KernelTable::rotate_halves) kRotateHalves = RotateHalves;
extern const decltype(KernelTable::soft_cap) kSoftCap = SoftCap;
}  // namespace tandem::kernels::cpu::avx512

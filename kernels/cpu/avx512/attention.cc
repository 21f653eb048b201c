#include "kernels/cpu/avx512/simd.h"
// Above: the lanes that the loops below are made of.
#include "kernels/cpu/attention.inc"

namespace tandem::kernels::cpu::avx512 {
extern const decltype(KernelTable::attention) kAttention = Attention<PairLines>;
}

#include "kernels/cpu/avx2/simd.h"
// Above: the lanes that the loops below are made of.
#include "kernels/cpu/attention.inc"

namespace tandem::kernels::cpu::avx2 {
extern const decltype(KernelTable::attention) kAttention = Attention<PairLines>;
}

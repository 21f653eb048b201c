#include "kernels/cpu/sampling.inc"

namespace tandem::kernels::cpu::avx512 {
extern const SamplingKernels kSampling = {.arg_max = ArgMax,
                                          .exp_below = ExpBelow,
                                          .sum_blocks = SumBlocks,
                                          .bin_below = BinBelow,
                                          .collect_below = CollectBelow,
                                          .zero_below = ZeroBelow};
}

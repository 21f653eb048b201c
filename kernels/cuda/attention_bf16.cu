#include "kernels/cuda/attention.cuh"

namespace tandem::kernels::cuda::attention {

template struct Device<Bf16>;

}  // namespace tandem::kernels::cuda::attention

#include "kernels/cuda/attention.cuh"

namespace tandem::kernels::cuda::attention {

template struct Device<F16>;

}  // namespace tandem::kernels::cuda::attention

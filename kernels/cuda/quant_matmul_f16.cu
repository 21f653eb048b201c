#include "kernels/cuda/quant_matmul.cuh"

namespace tandem::kernels::cuda::quant {

template struct Device<F16>;

}  // namespace tandem::kernels::cuda::quant

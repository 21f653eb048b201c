#include "kernels/cuda/quant_matmul.cuh"

namespace tandem::kernels::cuda::quant {

template struct Device<Bf16>;

}  // namespace tandem::kernels::cuda::quant

#include "kernels/cuda/quant_matmul.cuh"

namespace tandem::kernels::cuda {
namespace {

void Run(quant::Args args, const Matrix& x, const QuantWeight& weight, cudaStream_t stream) {
  CheckMatrix(x, x.rows, weight.cols, x.type);
  TANDEM_CHECK(IsQuantized(weight.type) && weight.cols % 32 == 0 &&
               reinterpret_cast<uintptr_t>(weight.packed) % 16 == 0)
      << static_cast<int>(weight.type) << " " << weight.cols;
  if (x.rows == 0 || weight.rows == 0) return;
  args.x = x.data;
  args.x_stride = x.stride;
  args.packed = static_cast<const unsigned char*>(weight.packed);
  args.rows = static_cast<int32_t>(weight.rows);
  args.cols = static_cast<int32_t>(weight.cols);
  args.tokens = static_cast<int32_t>(x.rows);
  ForType(x.type, [&]<class T>(T) { quant::Device<T>::Run(weight.type, args, stream); });
}

}  // namespace

void QuantMatMul(const Matrix& out, const Matrix& x, const QuantWeight& weight, const float* bias,
                 cudaStream_t stream) {
  TANDEM_CHECK(out.rows == x.rows && out.cols == weight.rows && out.type == x.type)
      << out.rows << " x " << out.cols;
  quant::Args args = {};
  args.out = out.data;
  args.out_stride = out.stride;
  args.bias = bias;
  Run(args, x, weight, stream);
}

void QuantMatMulF32(float* out, int64_t out_stride, const Matrix& x, const QuantWeight& weight,
                    cudaStream_t stream) {
  TANDEM_CHECK(out_stride >= weight.rows) << out_stride;
  quant::Args args = {};
  args.out = out;
  args.out_stride = out_stride;
  args.float_out = true;
  Run(args, x, weight, stream);
}

}  // namespace tandem::kernels::cuda

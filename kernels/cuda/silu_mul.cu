#include "common/round.h"
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {
namespace {

constexpr int kThreads = 128;  // few, so that one row of a decode is spread over several SMs

template <class T>
__global__ void __launch_bounds__(kThreads)
    SiluMulKernel(T* out, int64_t out_stride, const T* gate, int64_t gate_stride, const T* up,
                  int64_t up_stride, int64_t cols) {
  const int64_t col = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kPackElements;
  const int64_t row = blockIdx.y;
  DependentLaunchWait();
  DependentLaunchTrigger();
  if (col >= cols) return;
  float g[8], u[8];
  Load8(g, gate + row * gate_stride + col);
  Load8(u, up + row * up_stride + col);
#pragma unroll
  for (int i = 0; i < 8; ++i) g[i] = g[i] / (1.0f + expf(-g[i])) * u[i];
  Store8(out + row * out_stride + col, g);
}

}  // namespace

void SiluMul(const Matrix& out, const Matrix& gate, const Matrix& up, cudaStream_t stream) {
  CheckMatrix(out, out.rows, out.cols, out.type);
  CheckMatrix(gate, out.rows, out.cols, out.type);
  CheckMatrix(up, out.rows, out.cols, out.type);
  if (out.rows == 0 || out.cols == 0) return;
  ForType(out.type, [&]<class T>(T) {
    Launch<&SiluMulKernel<T>>({.grid = dim3(CeilDiv(out.cols, kThreads * kPackElements), out.rows),
                               .block = dim3(kThreads),
                               .stream = stream,
                               .dependent = true},
                              static_cast<T*>(out.data), out.stride,
                              static_cast<const T*>(gate.data), gate.stride,
                              static_cast<const T*>(up.data), up.stride, out.cols);
  });
}

}  // namespace tandem::kernels::cuda

#include <type_traits>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/norm_row.cuh"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {
namespace {

enum class Source { kX, kXPlusResidual, kRowsOfBoth };

struct NormArgs {
  void* out = nullptr;
  float* x = nullptr;
  const void* residual = nullptr;
  const int32_t* rows = nullptr;
  const float* weight = nullptr;
  int64_t out_stride = 0;
  int64_t residual_stride = 0;
  int cols = 0;
  float eps = 0;
};

// One block a row.
template <class T, Source kSource, int kPacks>
__global__ void __launch_bounds__(kMaxNormThreads)
    RmsNormKernel(const __grid_constant__ NormArgs args) {
  TANDEM_SHARED(float, sums, [kMaxWarps]);
  NormRow<kPacks> weight, x;
  weight.Load(args.weight, args.cols);  // nobody writes it: before the wait
  DependentLaunchWait();
  DependentLaunchTrigger();
  T* const out = static_cast<T*>(args.out) + blockIdx.x * args.out_stride;
  int64_t row = blockIdx.x;
  if constexpr (kSource == Source::kRowsOfBoth) {
    row = args.rows[row];
    if (row < 0) {
      x = {};
      x.Store(out, args.cols);
      return;
    }
  }
  x.Load(args.x + row * args.cols, args.cols);
  if constexpr (kSource != Source::kX) {
    NormRow<kPacks> residual;
    residual.Load(static_cast<const T*>(args.residual) + row * args.residual_stride, args.cols);
    x.Add(residual);
  }
  if constexpr (kSource == Source::kXPlusResidual) x.Store(args.x + row * args.cols, args.cols);
  x.Normalize(weight, args.cols, args.eps, sums);
  x.Store(out, args.cols);
}

template <Source kSource>
void LaunchNorm(const Matrix& out, const NormArgs& args, cudaStream_t stream) {
  if (out.rows == 0) return;
  ForType(out.type, [&]<class T>(T) {
    ForPacks(out.cols, [&]<int kPacks>(std::integral_constant<int, kPacks>) {
      Launch<&RmsNormKernel<T, kSource, kPacks>>({.grid = dim3(out.rows),
                                                  .block = dim3(NormThreads(out.cols)),
                                                  .stream = stream,
                                                  .dependent = true},
                                                 args);
    });
  });
}

}  // namespace

void RmsNorm(const Matrix& out, const float* x, const float* weight, float eps,
             cudaStream_t stream) {
  CheckMatrix(out, out.rows, out.cols, out.type);
  LaunchNorm<Source::kX>(out,
                         {.out = out.data,
                          .x = const_cast<float*>(x),
                          .weight = weight,
                          .out_stride = out.stride,
                          .cols = static_cast<int>(out.cols),
                          .eps = eps},
                         stream);
}

void AddRmsNorm(const Matrix& out, float* x, const Matrix& residual, const float* weight, float eps,
                cudaStream_t stream) {
  CheckMatrix(out, out.rows, out.cols, out.type);
  CheckMatrix(residual, out.rows, out.cols, out.type);
  LaunchNorm<Source::kXPlusResidual>(out,
                                     {.out = out.data,
                                      .x = x,
                                      .residual = residual.data,
                                      .weight = weight,
                                      .out_stride = out.stride,
                                      .residual_stride = residual.stride,
                                      .cols = static_cast<int>(out.cols),
                                      .eps = eps},
                                     stream);
}

void AddRmsNormRows(const Matrix& out, const float* x, const Matrix& residual, const int32_t* rows,
                    const float* weight, float eps, cudaStream_t stream) {
  CheckMatrix(out, out.rows, out.cols, out.type);
  CheckMatrix(residual, residual.rows, out.cols, out.type);
  LaunchNorm<Source::kRowsOfBoth>(out,
                                  {.out = out.data,
                                   .x = const_cast<float*>(x),
                                   .residual = residual.data,
                                   .rows = rows,
                                   .weight = weight,
                                   .out_stride = out.stride,
                                   .residual_stride = residual.stride,
                                   .cols = static_cast<int>(out.cols),
                                   .eps = eps},
                                  stream);
}

}  // namespace tandem::kernels::cuda

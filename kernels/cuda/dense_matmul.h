// Matrix products with a dense weight, by cuBLASLt. Which of the library's algorithms computes a
// shape is chosen once, and kept: in memory, and in a file if there is one, so that a restart
// computes the same bits and need not choose again.
//
// A product of the same shape is the same bits every time. Another number of rows may be computed
// by another algorithm, in another order.
//
// Thread: one at a time, with the device current that Make() was called on, and on one stream at a
// time: products share a workspace.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/status.h"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

// A weight [N, K] as the model file has it, row-major without gaps, in device memory aligned to 16
// bytes.
struct DenseWeight {
  const void* data = nullptr;
  int64_t rows = 0;  // N
  int64_t cols = 0;  // K, a multiple of 8
  ActivationType type = ActivationType::kBf16;
  const void* bias = nullptr;  // [N] of `type`, aligned to 16 bytes, or null
};

class DenseMatMul {
 public:
  // What products need as scratch; allocated by Make() in device memory.
  static constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

  // `algorithms`: the file that choices are kept in; empty: none. A file that is not of this
  // format, device or library version is not used, as `warn` is told (matmul_algorithms.h has the
  // format). kResourceExhausted: no memory for the workspace; kInternal: the library does not
  // start.
  static StatusOr<std::unique_ptr<DenseMatMul>> Make(
      const std::string& algorithms = "", const std::function<void(const std::string&)>& warn = {});
  ~DenseMatMul();
  DenseMatMul(const DenseMatMul&) = delete;
  DenseMatMul& operator=(const DenseMatMul&) = delete;

  // out = x · Wᵀ + bias. The first call of a shape chooses: by time, on this stream, if the number
  // of rows is a power of two (decode batches) and no graph captures it; else what the library
  // recommends.
  // REQUIRES: out, x and weight of one type; out [T, N], x [T, K]; T > 0.
  void MatMul(const Matrix& out, const Matrix& x, const DenseWeight& weight, cudaStream_t stream);

  // The same into float32 (logits). out_stride in elements, a multiple of 4; out aligned to 16
  // bytes. REQUIRES: no bias.
  void MatMulF32(float* out, int64_t out_stride,  // [T, N]
                 const Matrix& x,                 // [T, K]
                 const DenseWeight& weight, cudaStream_t stream);

  // OK, or the first product that the library refused, and why. A failure of the device stays in
  // cudaPeekAtLastError() instead.
  Status Poll() const;

  // Writes the choices to the file, if there are new ones: when the shapes that matter were seen.
  // kUnavailable: it could not be written.
  Status Save();

 private:
  struct State;
  explicit DenseMatMul(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace tandem::kernels::cuda

// Which of the library's algorithms computes which shape, in memory and in a file:
//
//   tandem matmul algorithms 1; <library and device>
//   <rows> <n> <k> <x_stride> <out_stride> <bf16|f16> <f32 or -> <bias or -> <128 hex digits>
//
// one line a shape, sorted. The digits are the library's own word for the algorithm, which means
// something only to the version and the device that the first line names.
//
// Thread: one at a time.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "common/status.h"
#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

// out [rows, n] = x [rows, k] · Wᵀ; strides in elements.
struct MatMulShape {
  int64_t rows = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t x_stride = 0;
  int64_t out_stride = 0;
  ActivationType type = ActivationType::kBf16;  // of x and W
  bool out_f32 = false;                         // else of `type`
  bool has_bias = false;

  auto operator<=>(const MatMulShape&) const = default;
};
std::string Describe(const MatMulShape& shape);

class MatMulAlgorithms {
 public:
  using Algorithm = std::array<std::byte, 64>;

  // Reads the file, if there is one. An error says why it is not used, and nothing was read; the
  // next Save() replaces it. `path` empty: no file.
  Status Open(const std::string& path, const std::string& library_and_device);

  // Null: not chosen yet.
  const Algorithm* Find(const MatMulShape& shape) const;
  void Set(const MatMulShape& shape, const Algorithm& algorithm);

  // Replaces the file if there is something new. kUnavailable: it could not be written.
  Status Save();

 private:
  bool Parse(std::string_view text);

  std::string path_;
  std::string first_line_;
  std::map<MatMulShape, Algorithm> algorithms_;
  bool is_saved_ = true;
};

}  // namespace tandem::kernels::cuda

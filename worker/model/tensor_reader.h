// What a loader reads of a model file: the tensors that ReadLlamaConfig has checked, as views or as
// vectors. One that is missing is a bug: CHECK.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/gguf/gguf_file.h"
#include "kernels/ops.h"
#include "worker/model/shard_layout.h"

namespace tandem::model {

class TensorReader {
 public:
  // Borrows the file, as all slices do.
  explicit TensorReader(const gguf::File& file) : file_(file) {}

  kernels::MatrixSlice Whole(const std::string& name) const;
  kernels::MatrixSlice Rows(const std::string& name, int64_t begin, int64_t end) const;
  kernels::MatrixSlice Columns(const std::string& name, int64_t begin, int64_t end) const;
  std::vector<float> Vector(const std::string& name) const;

  // The biases of this rank's heads, in the order of the fused weight's rows.
  std::vector<float> QkvBias(int layer, int head_dim, const RankShard& shard) const;

 private:
  const gguf::Tensor& Get(const std::string& name) const;

  const gguf::File& file_;
};

}  // namespace tandem::model

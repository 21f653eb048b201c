// What a loader reads of a model: the tensors that ModelSource has checked, as views or as
// vectors. One that is missing is a bug: CHECK.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "worker/model/model_tensors.h"
#include "worker/model/shard_layout.h"

namespace tandem::model {

class TensorReader {
 public:
  // Borrows the tensors, and slices the file they lie in.
  explicit TensorReader(const ModelTensors& tensors) : tensors_(tensors) {}

  kernels::MatrixSlice Whole(const std::string& name) const;
  kernels::MatrixSlice Rows(const std::string& name, int64_t begin, int64_t end) const;
  kernels::MatrixSlice Columns(const std::string& name, int64_t begin, int64_t end) const;
  std::vector<float> Vector(const std::string& name) const;

  // The biases of this rank's heads, in the order of the fused weight's rows.
  std::vector<float> QkvBias(int layer, int head_dim, const RankShard& shard) const;

 private:
  const ModelTensor& Get(const std::string& name) const;

  const ModelTensors& tensors_;
};

}  // namespace tandem::model

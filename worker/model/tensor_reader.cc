#include "worker/model/tensor_reader.h"

#include <cstring>

#include "common/check.h"
#include "worker/model/llama_config.h"

namespace tandem::model {
namespace {

using kernels::MatrixSlice;
using kernels::WeightType;

WeightType TypeOf(const gguf::Tensor& tensor) {
  switch (tensor.type) {
    case gguf::TensorType::kF32:
      return WeightType::kF32;
    case gguf::TensorType::kF16:
      return WeightType::kF16;
    case gguf::TensorType::kQ4_0:
      return WeightType::kQ4_0;
    case gguf::TensorType::kQ4_1:
      return WeightType::kQ4_1;
    case gguf::TensorType::kQ8_0:
      return WeightType::kQ8_0;
  }
  TANDEM_CHECK(false) << "type of " << tensor.name << " was not checked";
}

}  // namespace

const gguf::Tensor& TensorReader::Get(const std::string& name) const {
  const gguf::Tensor* tensor = file_.Find(name);
  TANDEM_CHECK(tensor != nullptr) << name << " was not checked";
  return *tensor;
}

MatrixSlice TensorReader::Whole(const std::string& name) const {
  const gguf::Tensor& t = Get(name);
  return {TypeOf(t), t.data.data(), t.cols(), 0, t.rows(), 0, t.cols()};
}

MatrixSlice TensorReader::Rows(const std::string& name, int64_t begin, int64_t end) const {
  MatrixSlice slice = Whole(name);
  slice.row_begin = begin;
  slice.row_end = end;
  return slice;
}

MatrixSlice TensorReader::Columns(const std::string& name, int64_t begin, int64_t end) const {
  MatrixSlice slice = Whole(name);
  slice.col_begin = begin;
  slice.col_end = end;
  return slice;
}

std::vector<float> TensorReader::Vector(const std::string& name) const {
  const gguf::Tensor& t = Get(name);
  std::vector<float> values(t.cols());
  std::memcpy(values.data(), t.data.data(), values.size() * sizeof(float));
  return values;
}

std::vector<float> TensorReader::QkvBias(int layer, int head_dim, const RankShard& shard) const {
  std::vector<float> bias;
  const auto append = [&](const char* kind, const Range& heads) {
    const std::vector<float> all = Vector(LayerBiasName(layer, kind));
    bias.insert(bias.end(), all.begin() + heads.begin * head_dim,
                all.begin() + heads.end * head_dim);
  };
  append("attn_q", shard.heads);
  append("attn_k", shard.kv_heads);
  append("attn_v", shard.kv_heads);
  return bias;
}

}  // namespace tandem::model

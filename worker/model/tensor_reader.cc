#include "worker/model/tensor_reader.h"

#include "common/check.h"
#include "kernels/dequantize.h"

namespace tandem::model {

using kernels::MatrixSlice;

const ModelTensor& TensorReader::Get(const std::string& name) const {
  const auto tensor = tensors_.find(name);
  TANDEM_CHECK(tensor != tensors_.end()) << name << " was not checked";
  return tensor->second;
}

MatrixSlice TensorReader::Whole(const std::string& name) const { return Get(name).slice; }

MatrixSlice TensorReader::Rows(const std::string& name, int64_t begin, int64_t end) const {
  MatrixSlice slice = Whole(name);
  slice.row_end = slice.row_begin + end;
  slice.row_begin += begin;
  return slice;
}

MatrixSlice TensorReader::Columns(const std::string& name, int64_t begin, int64_t end) const {
  MatrixSlice slice = Whole(name);
  slice.col_begin = begin;
  slice.col_end = end;
  return slice;
}

std::vector<float> TensorReader::Vector(const std::string& name) const {
  const ModelTensor& tensor = Get(name);
  std::vector<float> values(static_cast<size_t>(tensor.slice.cols()));
  kernels::DequantizeRow(tensor.slice, tensor.slice.row_begin, values);
  for (float& value : values) value += tensor.plus;
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

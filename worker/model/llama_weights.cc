#include "worker/model/llama_weights.h"

#include <array>
#include <cstring>

#include "common/check.h"

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

// Reads the tensors that ReadLlamaConfig has checked.
class Reader {
 public:
  explicit Reader(const gguf::File& file) : file_(file) {}

  MatrixSlice Whole(const std::string& name) const {
    const gguf::Tensor& t = Get(name);
    return {TypeOf(t), t.data.data(), t.cols(), 0, t.rows(), 0, t.cols()};
  }
  MatrixSlice Rows(const std::string& name, int64_t begin, int64_t end) const {
    MatrixSlice slice = Whole(name);
    slice.row_begin = begin;
    slice.row_end = end;
    return slice;
  }
  MatrixSlice Columns(const std::string& name, int64_t begin, int64_t end) const {
    MatrixSlice slice = Whole(name);
    slice.col_begin = begin;
    slice.col_end = end;
    return slice;
  }
  std::vector<float> Vector(const std::string& name) const {
    const gguf::Tensor& t = Get(name);
    std::vector<float> values(t.cols());
    std::memcpy(values.data(), t.data.data(), values.size() * sizeof(float));
    return values;
  }

 private:
  const gguf::Tensor& Get(const std::string& name) const {
    const gguf::Tensor* tensor = file_.Find(name);
    TANDEM_CHECK(tensor != nullptr) << name << " was not checked";
    return *tensor;
  }
  const gguf::File& file_;
};

// The biases of this rank's heads, in the order of the fused weight's rows.
std::vector<float> LoadQkvBias(const Reader& reader, int index, int head_dim,
                               const RankShard& shard) {
  std::vector<float> bias;
  const auto append = [&](const char* kind, const Range& heads) {
    const std::vector<float> all = reader.Vector(LayerBiasName(index, kind));
    bias.insert(bias.end(), all.begin() + heads.begin * head_dim,
                all.begin() + heads.end * head_dim);
  };
  append("attn_q", shard.heads);
  append("attn_k", shard.kv_heads);
  append("attn_v", shard.kv_heads);
  return bias;
}

LlamaLayer LoadLayer(const Reader& reader, int index, const LlamaConfig& config,
                     const RankShard& shard, kernels::Ops& ops) {
  const int head_dim = config.head_dim;
  const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
  const auto heads = [&](const char* kind, const Range& range) {
    return reader.Rows(name(kind), range.begin * head_dim, range.end * head_dim);
  };
  const auto pack = [&](const MatrixSlice& slice) { return ops.Pack({&slice, 1}); };
  LlamaLayer layer;
  layer.attn_norm = reader.Vector(name("attn_norm"));
  layer.ffn_norm = reader.Vector(name("ffn_norm"));
  const std::array<MatrixSlice, 3> qkv = {heads("attn_q", shard.heads),
                                          heads("attn_k", shard.kv_heads),
                                          heads("attn_v", shard.kv_heads)};
  layer.qkv = ops.Pack(qkv);
  if (config.qkv_bias) layer.qkv_bias = LoadQkvBias(reader, index, head_dim, shard);
  if (config.qk_norm) {
    layer.q_norm = reader.Vector(name("attn_q_norm"));
    layer.k_norm = reader.Vector(name("attn_k_norm"));
  }
  layer.o = pack(reader.Columns(name("attn_output"), shard.heads.begin * head_dim,
                                shard.heads.end * head_dim));
  layer.gate_up = ops.PackGateUp(reader.Rows(name("ffn_gate"), shard.ffn.begin, shard.ffn.end),
                                 reader.Rows(name("ffn_up"), shard.ffn.begin, shard.ffn.end));
  layer.down = pack(reader.Columns(name("ffn_down"), shard.ffn.begin, shard.ffn.end));
  return layer;
}

}  // namespace

LlamaWeights LoadLlamaWeights(const gguf::File& file, const LlamaConfig& config,
                              const RankShard& shard, kernels::Ops& ops) {
  const Reader reader(file);
  LlamaWeights weights;
  if (config.rope_freqs) weights.rope_freqs = reader.Vector("rope_freqs.weight");
  weights.embedding = reader.Whole("token_embd.weight");
  for (int i = 0; i < config.num_layers; ++i) {
    weights.layers.push_back(LoadLayer(reader, i, config, shard, ops));
  }
  weights.output_norm = reader.Vector("output_norm.weight");
  if (shard.vocab.size() > 0) {
    const MatrixSlice output =
        reader.Rows(config.tied_embeddings ? "token_embd.weight" : "output.weight",
                    shard.vocab.begin, shard.vocab.end);
    weights.output = ops.Pack({&output, 1});
  }
  return weights;
}

}  // namespace tandem::model

#include "worker/model/llama_weights.h"

#include <array>

#include "worker/model/tensor_reader.h"

namespace tandem::model {
namespace {

using kernels::MatrixSlice;

LlamaLayer LoadLayer(const TensorReader& reader, int index, const LlamaConfig& config,
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
  if (config.qkv_bias) layer.qkv_bias = reader.QkvBias(index, head_dim, shard);
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
  const TensorReader reader(file);
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

#include "worker/model/llama_weights.h"

#include <array>

#include "worker/model/tensor_reader.h"

namespace tandem::model {
namespace {

using kernels::MatrixSlice;

class Loader {
 public:
  Loader(const ModelSource& source, const RankShard& shard, int rank, kernels::Ops& ops)
      : config_(source.config()),
        reader_(source.tensors()),
        shard_(shard),
        rank_(rank),
        ops_(ops) {}

  LlamaWeights Load() const {
    LlamaWeights weights;
    weights.embedding = reader_.Whole("token_embd.weight");
    for (int i = 0; i < config_.num_layers; ++i) weights.layers.push_back(Layer(i));
    weights.output_norm = reader_.Vector("output_norm.weight");
    if (config_.has_head && shard_.vocab.size() > 0) {
      weights.output =
          Pack(reader_.Rows(config_.tied_embeddings ? "token_embd.weight" : "output.weight",
                            shard_.vocab.begin, shard_.vocab.end));
    }
    return weights;
  }

 private:
  std::unique_ptr<kernels::Weight> Pack(const MatrixSlice& slice) const {
    return ops_.Pack({&slice, 1});
  }

  LlamaLayer Layer(int index) const {
    const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
    LlamaLayer layer;
    layer.attn_norm = reader_.Vector(name("attn_norm"));
    layer.ffn_norm = reader_.Vector(name("ffn_norm"));
    if (config_.post_norms) {
      layer.attn_post_norm = reader_.Vector(name("post_attention_norm"));
      layer.ffn_post_norm = reader_.Vector(name("post_ffw_norm"));
    }
    Attention(index, layer);
    if (config_.num_experts == 0) {
      layer.ffn.push_back(FeedForward(name("ffn_gate"), name("ffn_up"), name("ffn_down")));
      return layer;
    }
    layer.expert_router = Pack(reader_.Whole(name("ffn_gate_inp")));
    for (int e = 0; e < config_.num_experts; ++e) {
      layer.ffn.push_back(FeedForward(ExpertTensorName(index, "ffn_gate", e),
                                      ExpertTensorName(index, "ffn_up", e),
                                      ExpertTensorName(index, "ffn_down", e)));
    }
    return layer;
  }

  void Attention(int index, LlamaLayer& layer) const {
    const int dim = config_.head_dim;
    const auto name = [&](const char* kind) { return LayerTensorName(index, kind); };
    const auto heads = [&](const char* kind, const Range& range) {
      return reader_.Rows(name(kind), range.begin * dim, range.end * dim);
    };
    const std::array<MatrixSlice, 3> qkv = {heads("attn_q", shard_.heads),
                                            heads("attn_k", shard_.kv_heads),
                                            heads("attn_v", shard_.kv_heads)};
    layer.qkv = ops_.Pack(qkv);
    if (config_.qkv_bias) layer.qkv_bias = reader_.QkvBias(index, dim, shard_);
    if (config_.qk_norm) {
      layer.q_norm = reader_.Vector(name("attn_q_norm"));
      layer.k_norm = reader_.Vector(name("attn_k_norm"));
    }
    layer.o = Pack(
        reader_.Columns(name("attn_output"), shard_.heads.begin * dim, shard_.heads.end * dim));
    // The ranks' parts are summed: one of them brings the bias.
    if (config_.o_bias && rank_ == 0) {
      layer.o_bias = reader_.Vector(LayerBiasName(index, "attn_output"));
    }
  }

  FeedForwardWeights FeedForward(const std::string& gate, const std::string& up,
                                 const std::string& down) const {
    const Range& ffn = shard_.ffn;
    return {ops_.PackGateUp(reader_.Rows(gate, ffn.begin, ffn.end),
                            reader_.Rows(up, ffn.begin, ffn.end)),
            Pack(reader_.Columns(down, ffn.begin, ffn.end))};
  }

  const ModelConfig& config_;
  TensorReader reader_;
  const RankShard& shard_;
  int rank_;
  kernels::Ops& ops_;
};

// Of the matrices that Loader packs.
class Sizer {
 public:
  Sizer(const ModelSource& source, const RankShard& shard)
      : config_(source.config()), reader_(source.tensors()), shard_(shard) {}

  int64_t Size() {
    const int dim = config_.head_dim;
    for (int i = 0; i < config_.num_layers; ++i) {
      AddRows(LayerTensorName(i, "attn_q"), shard_.heads, dim);
      AddRows(LayerTensorName(i, "attn_k"), shard_.kv_heads, dim);
      AddRows(LayerTensorName(i, "attn_v"), shard_.kv_heads, dim);
      Add(reader_.Columns(LayerTensorName(i, "attn_output"), shard_.heads.begin * dim,
                          shard_.heads.end * dim));
      if (config_.num_experts == 0) {
        AddFeedForward(LayerTensorName(i, "ffn_gate"), LayerTensorName(i, "ffn_up"),
                       LayerTensorName(i, "ffn_down"));
      }
      for (int e = 0; e < config_.num_experts; ++e) {
        AddFeedForward(ExpertTensorName(i, "ffn_gate", e), ExpertTensorName(i, "ffn_up", e),
                       ExpertTensorName(i, "ffn_down", e));
      }
    }
    if (config_.has_head) {
      AddRows(config_.tied_embeddings ? "token_embd.weight" : "output.weight", shard_.vocab, 1);
    }
    return bytes_;
  }

 private:
  void AddRows(const std::string& name, const Range& range, int times) {
    Add(reader_.Rows(name, range.begin * times, range.end * times));
  }
  void AddFeedForward(const std::string& gate, const std::string& up, const std::string& down) {
    AddRows(gate, shard_.ffn, 1);
    AddRows(up, shard_.ffn, 1);
    Add(reader_.Columns(down, shard_.ffn.begin, shard_.ffn.end));
  }
  void Add(const MatrixSlice& slice) {
    bytes_ += slice.rows() * slice.cols() * kernels::BlockBytes(slice.type) /
              kernels::BlockElements(slice.type);
  }

  const ModelConfig& config_;
  TensorReader reader_;
  const RankShard& shard_;
  int64_t bytes_ = 0;
};

}  // namespace

int64_t LeastWeightBytes(const ModelSource& source, const RankShard& shard) {
  return Sizer(source, shard).Size();
}

LlamaWeights LoadLlamaWeights(const ModelSource& source, const RankShard& shard, int rank,
                              kernels::Ops& ops) {
  return Loader(source, shard, rank, ops).Load();
}

}  // namespace tandem::model

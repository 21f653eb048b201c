#include "worker/model/model_tensors.h"

#include <set>
#include <vector>

namespace tandem::model {
namespace {

struct Expected {
  std::string name;
  int64_t rows = 1, cols = 0;
};

void ExpectFeedForward(const ModelConfig& c, int layer, std::vector<Expected>& all) {
  if (c.num_experts == 0) {
    all.push_back({LayerTensorName(layer, "ffn_gate"), c.ffn, c.hidden});
    all.push_back({LayerTensorName(layer, "ffn_up"), c.ffn, c.hidden});
    all.push_back({LayerTensorName(layer, "ffn_down"), c.hidden, c.ffn});
    return;
  }
  all.push_back({LayerTensorName(layer, "ffn_gate_inp"), c.num_experts, c.hidden});
  for (int e = 0; e < c.num_experts; ++e) {
    all.push_back({ExpertTensorName(layer, "ffn_gate", e), c.ffn, c.hidden});
    all.push_back({ExpertTensorName(layer, "ffn_up", e), c.ffn, c.hidden});
    all.push_back({ExpertTensorName(layer, "ffn_down", e), c.hidden, c.ffn});
  }
}

void ExpectLayer(const ModelConfig& c, int layer, std::vector<Expected>& all) {
  const int64_t q = int64_t{c.num_heads} * c.head_dim, kv = int64_t{c.num_kv_heads} * c.head_dim;
  const auto matrix = [&](const char* kind, int64_t rows, int64_t cols) {
    all.push_back({LayerTensorName(layer, kind), rows, cols});
  };
  matrix("attn_norm", 1, c.hidden);
  matrix("attn_q", q, c.hidden);
  matrix("attn_k", kv, c.hidden);
  matrix("attn_v", kv, c.hidden);
  matrix("attn_output", c.hidden, q);
  matrix("ffn_norm", 1, c.hidden);
  ExpectFeedForward(c, layer, all);
  if (c.qkv_bias) {
    all.push_back({LayerBiasName(layer, "attn_q"), 1, q});
    all.push_back({LayerBiasName(layer, "attn_k"), 1, kv});
    all.push_back({LayerBiasName(layer, "attn_v"), 1, kv});
  }
  if (c.o_bias) all.push_back({LayerBiasName(layer, "attn_output"), 1, c.hidden});
  if (c.qk_norm) {
    matrix("attn_q_norm", 1, c.head_dim);
    matrix("attn_k_norm", 1, c.head_dim);
  }
  if (c.post_norms) {
    matrix("post_attention_norm", 1, c.hidden);
    matrix("post_ffw_norm", 1, c.hidden);
  }
}

std::vector<Expected> ExpectedTensors(const ModelConfig& c) {
  std::vector<Expected> all = {{"token_embd.weight", c.vocab, c.hidden},
                               {"output_norm.weight", 1, c.hidden}};
  if (!c.tied_embeddings && c.has_head) all.push_back({"output.weight", c.vocab, c.hidden});
  for (int i = 0; i < c.num_layers; ++i) ExpectLayer(c, i, all);
  return all;
}

Status CheckTensor(const ModelTensors& tensors, const Expected& want, const std::string& name) {
  const auto found = tensors.find(want.name);
  if (found == tensors.end()) {
    return InvalidArgument("{}: tensor {} of shape [{}, {}] is missing", name, want.name, want.rows,
                           want.cols);
  }
  const kernels::MatrixSlice& slice = found->second.slice;
  if (slice.rows() != want.rows || slice.cols() != want.cols) {
    return InvalidArgument("{}: tensor {} has shape [{}, {}], expected [{}, {}]", name,
                           found->second.source, slice.rows(), slice.cols(), want.rows, want.cols);
  }
  if (want.rows == 1 && kernels::BlockElements(slice.type) > 1) {
    return Unsupported(
        "{}: tensor {} is of type {}, but vectors are supported in F32, F16 and "
        "BF16 only",
        name, found->second.source, found->second.type_name);
  }
  return OkStatus();
}

// Gate and up are packed into one weight.
Status CheckGateUp(const ModelTensors& tensors, const std::string& gate, const std::string& up,
                   const std::string& name) {
  const ModelTensor &a = tensors.at(gate), &b = tensors.at(up);
  if (a.slice.type == b.slice.type) return OkStatus();
  return Unsupported("{}: tensors {} ({}) and {} ({}) of different types are not supported", name,
                     a.source, a.type_name, b.source, b.type_name);
}

}  // namespace

std::string LayerTensorName(int layer, const char* kind) {
  return fmt::format("blk.{}.{}.weight", layer, kind);
}
std::string LayerBiasName(int layer, const char* kind) {
  return fmt::format("blk.{}.{}.bias", layer, kind);
}
std::string ExpertTensorName(int layer, const char* kind, int expert) {
  return fmt::format("blk.{}.{}.{}.weight", layer, kind, expert);
}

Status AddTensor(const std::string& name, const ModelTensor& whole,
                 std::span<const TensorPart> parts, const std::string& file,
                 ModelTensors& tensors) {
  const TensorPart self[] = {{name, whole.slice.rows()}};
  if (parts.empty()) parts = self;
  int64_t row = 0;
  for (const TensorPart& part : parts) {
    ModelTensor tensor = whole;
    tensor.slice.row_begin = whole.slice.row_begin + row;
    tensor.slice.row_end = tensor.slice.row_begin + part.rows;
    row += part.rows;
    if (row > whole.slice.rows()) break;
    if (!tensors.emplace(part.name, std::move(tensor)).second) {
      return InvalidArgument("{}: tensor {} gives {}, which another gives too", file, whole.source,
                             part.name);
    }
  }
  if (row != whole.slice.rows()) {
    return InvalidArgument("{}: tensor {} has {} rows, expected {}", file, whole.source,
                           whole.slice.rows(), row);
  }
  return OkStatus();
}

Status CheckModelTensors(const ModelConfig& config, const ModelTensors& tensors,
                         const std::string& name) {
  // Before the list of expected tensors is made from numbers that the file merely says.
  const auto least = size_t(config.num_layers) * std::max(1, config.num_experts);
  if (least > tensors.size()) {
    return InvalidArgument(
        "{}: {} layers{}, but only {} tensors", name, config.num_layers,
        config.num_experts > 0 ? fmt::format(" of {} experts", config.num_experts) : std::string(),
        tensors.size());
  }
  std::set<std::string> known;
  for (const Expected& want : ExpectedTensors(config)) {
    TANDEM_RETURN_IF_ERROR(CheckTensor(tensors, want, name));
    known.insert(want.name);
  }
  for (int i = 0; i < config.num_layers; ++i) {
    for (int e = 0; e < config.num_experts; ++e) {
      TANDEM_RETURN_IF_ERROR(CheckGateUp(tensors, ExpertTensorName(i, "ffn_gate", e),
                                         ExpertTensorName(i, "ffn_up", e), name));
    }
    if (config.num_experts > 0) continue;
    TANDEM_RETURN_IF_ERROR(
        CheckGateUp(tensors, LayerTensorName(i, "ffn_gate"), LayerTensorName(i, "ffn_up"), name));
  }
  for (const auto& [key, tensor] : tensors) {
    if (!known.contains(key)) {
      return Unsupported("{}: tensor {} is not part of a {} model that is supported", name,
                         tensor.source, config.architecture);
    }
  }
  return OkStatus();
}

}  // namespace tandem::model

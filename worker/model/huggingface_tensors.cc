// Hugging Face's names of tensors, and what families fuse, put in terms of model_tensors.h.
#include <charconv>

#include "worker/model/families.h"
#include "worker/model/huggingface_config.h"

namespace tandem::model {
namespace {

using huggingface::DType;
using huggingface::Tensor;

struct Named {
  std::string_view theirs;
  const char* ours;
};

// Inside "model.layers.N." and without ".weight".
constexpr Named kLayerNames[] = {
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.qkv_proj", "attn_qkv"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate_up_proj", "ffn_gate_up"},
    // Mixtral's router and Qwen's.
    {"block_sparse_moe.gate", "ffn_gate_inp"},
    {"mlp.gate", "ffn_gate_inp"},
};
// Gemma has norms after attention and feed-forward, and calls the one before the latter otherwise.
constexpr Named kPreNorms[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr Named kPostNorms[] = {{"post_attention_layernorm", "post_attention_norm"},
                                {"pre_feedforward_layernorm", "ffn_norm"},
                                {"post_feedforward_layernorm", "post_ffw_norm"}};
// Inside "...experts.N.": Mixtral's and Qwen's.
constexpr Named kExpertNames[] = {{"w1", "ffn_gate"},        {"w2", "ffn_down"},
                                  {"w3", "ffn_up"},          {"gate_proj", "ffn_gate"},
                                  {"down_proj", "ffn_down"}, {"up_proj", "ffn_up"}};

const char* Find(std::span<const Named> names, std::string_view theirs) {
  for (const Named& name : names) {
    if (name.theirs == theirs) return name.ours;
  }
  return nullptr;
}

// Takes "17." from the front of `rest`.
bool TakeNumber(std::string_view& rest, int& number) {
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
  if (error != std::errc() || end == rest.data() + rest.size() || *end != '.' || number < 0) {
    return false;
  }
  rest.remove_prefix(static_cast<size_t>(end - rest.data()) + 1);
  return true;
}

// Whether `rest` began with it.
bool Take(std::string_view& rest, std::string_view prefix) {
  if (!rest.starts_with(prefix)) return false;
  rest.remove_prefix(prefix.size());
  return true;
}

struct Place {
  std::string name;       // empty: nothing of ours
  const char* kind = "";  // "attn_qkv", of a layer's weight
  int layer = -1;
};

Place LayerPlace(int layer, std::string_view rest, bool post_norms) {
  if (Take(rest, "mlp.experts.") || Take(rest, "block_sparse_moe.experts.")) {
    int expert = 0;
    if (!TakeNumber(rest, expert) || !rest.ends_with(".weight")) return {};
    rest.remove_suffix(std::string_view(".weight").size());
    const char* kind = Find(kExpertNames, rest);
    return kind == nullptr ? Place{} : Place{ExpertTensorName(layer, kind, expert), kind, layer};
  }
  const bool bias = rest.ends_with(".bias");
  if (!bias && !rest.ends_with(".weight")) return {};
  rest.remove_suffix(bias ? std::string_view(".bias").size() : std::string_view(".weight").size());
  const char* kind = Find(kLayerNames, rest);
  if (kind == nullptr) {
    kind = post_norms ? Find(kPostNorms, rest) : Find(kPreNorms, rest);
  }
  if (kind == nullptr) return {};
  return {bias ? LayerBiasName(layer, kind) : LayerTensorName(layer, kind), kind, layer};
}

Place PlaceOf(std::string_view name, bool post_norms) {
  if (name == "lm_head.weight") return {"output.weight"};
  Take(name, "model.");  // which a model that was saved without its head does not have
  if (name == "embed_tokens.weight") return {"token_embd.weight"};
  if (name == "norm.weight") return {"output_norm.weight"};
  int layer = 0;
  if (!Take(name, "layers.") || !TakeNumber(name, layer)) return {};
  return LayerPlace(layer, name, post_norms);
}

std::vector<TensorPart> PartsOf(const Place& place, const ModelConfig& c) {
  const int64_t dim = c.head_dim;
  if (place.kind == std::string_view("attn_qkv")) {
    return {{LayerTensorName(place.layer, "attn_q"), c.num_heads * dim},
            {LayerTensorName(place.layer, "attn_k"), c.num_kv_heads * dim},
            {LayerTensorName(place.layer, "attn_v"), c.num_kv_heads * dim}};
  }
  if (place.kind == std::string_view("ffn_gate_up")) {
    return {{LayerTensorName(place.layer, "ffn_gate"), c.ffn},
            {LayerTensorName(place.layer, "ffn_up"), c.ffn}};
  }
  return {};
}

StatusOr<kernels::WeightType> TypeOf(const Tensor& tensor, const std::string& folder) {
  switch (tensor.dtype) {
    case DType::kF32:
      return kernels::WeightType::kF32;
    case DType::kF16:
      return kernels::WeightType::kF16;
    case DType::kBf16:
      return kernels::WeightType::kBf16;
    case DType::kOther:
      break;
  }
  return Unsupported(
      "{}: tensor {} is of type {}, which is not supported; supported: F32, F16, BF16", folder,
      tensor.name, tensor.dtype_name);
}

bool IsNorm(std::string_view name) { return name.find("norm") != std::string_view::npos; }

}  // namespace

bool IsWithoutHead(const huggingface::ModelFolder& folder) {
  return folder.Find("embed_tokens.weight") != nullptr && folder.Find("lm_head.weight") == nullptr;
}

StatusOr<ModelTensors> ReadHuggingFaceTensors(const huggingface::ModelFolder& folder,
                                              const ModelConfig& config) {
  const Family& family = *FamilyOfHuggingFace(*folder.config().GetString("model_type"));
  ModelTensors tensors;
  for (const Tensor* tensor : folder.tensors()) {
    // Old checkpoints carry the rotary frequencies along, and tied ones at times the output matrix.
    if (tensor->name.ends_with(".rotary_emb.inv_freq")) continue;
    if (config.tied_embeddings && tensor->name == "lm_head.weight") continue;
    const Place place = PlaceOf(tensor->name, config.post_norms);
    if (place.name.empty()) {
      return Unsupported("{}: tensor {} is not part of a {} model that is supported", folder.name(),
                         tensor->name, config.architecture);
    }
    ModelTensor whole;
    TANDEM_ASSIGN_OR_RETURN(const kernels::WeightType type, TypeOf(*tensor, folder.name()));
    const int64_t cols = tensor->cols(), rows = tensor->rows();
    whole.slice = {type, tensor->data.data(), cols, 0, rows, 0, cols};
    whole.plus = family.norms_less_one && IsNorm(place.name) ? 1.0f : 0.0f;
    whole.source = tensor->name;
    whole.type_name = tensor->dtype_name;
    TANDEM_RETURN_IF_ERROR(
        AddTensor(place.name, whole, PartsOf(place, config), folder.name(), tensors));
  }
  return tensors;
}

}  // namespace tandem::model

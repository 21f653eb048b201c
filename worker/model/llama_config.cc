#include "worker/model/llama_config.h"

#include <set>
#include <vector>

namespace tandem::model {
namespace {

constexpr int64_t kMost = 1 << 24;  // of any dimension: keeps products of two in int64 and honest

StatusOr<int> ReadSize(const gguf::File& file, const char* key) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t value, file.GetInt(key));
  if (value < 1 || value > kMost) {
    return InvalidArgument("{}: {} is {}, expected 1 to {}", file.name(), key, value, kMost);
  }
  return static_cast<int>(value);
}

StatusOr<int> ReadSizeOr(const gguf::File& file, const char* key, int absent) {
  return file.Has(key) ? ReadSize(file, key) : StatusOr<int>(absent);
}

Status CheckArchitecture(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view architecture,
                          file.GetString("general.architecture"));
  if (architecture != "llama") {
    return Unsupported("{}: architecture \"{}\" is not supported; supported: \"llama\"",
                       file.name(), architecture);
  }
  constexpr const char* kScaling = "llama.rope.scaling.type";
  if (file.Has(kScaling)) {
    TANDEM_ASSIGN_OR_RETURN(const std::string_view scaling, file.GetString(kScaling));
    if (scaling != "none") {
      return Unsupported("{}: rope scaling \"{}\" is not supported", file.name(), scaling);
    }
  }
  constexpr const char* kExperts = "llama.expert_count";
  if (file.Has(kExperts)) {
    TANDEM_ASSIGN_OR_RETURN(const int64_t experts, file.GetInt(kExperts));
    if (experts > 0) {
      return Unsupported("{}: mixture of experts ({} experts) is not supported", file.name(),
                         experts);
    }
  }
  return OkStatus();
}

Status ReadSizes(const gguf::File& file, LlamaConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(config.num_layers, ReadSize(file, "llama.block_count"));
  TANDEM_ASSIGN_OR_RETURN(config.hidden, ReadSize(file, "llama.embedding_length"));
  TANDEM_ASSIGN_OR_RETURN(config.num_heads, ReadSize(file, "llama.attention.head_count"));
  TANDEM_ASSIGN_OR_RETURN(config.num_kv_heads,
                          ReadSizeOr(file, "llama.attention.head_count_kv", config.num_heads));
  TANDEM_ASSIGN_OR_RETURN(config.ffn, ReadSize(file, "llama.feed_forward_length"));
  TANDEM_ASSIGN_OR_RETURN(config.max_context, ReadSize(file, "llama.context_length"));
  TANDEM_ASSIGN_OR_RETURN(config.head_dim, ReadSizeOr(file, "llama.attention.key_length",
                                                      config.hidden / config.num_heads));
  const int heads = config.num_heads, kv = config.num_kv_heads;
  if (kv > heads || heads % kv != 0) {
    return InvalidArgument("{}: {} KV heads do not divide {} heads", file.name(), kv, heads);
  }
  for (const char* key : {"llama.rope.dimension_count", "llama.attention.value_length"}) {
    TANDEM_ASSIGN_OR_RETURN(const int size, ReadSizeOr(file, key, config.head_dim));
    if (size != config.head_dim) {
      return Unsupported("{}: {} is {}, but only the head dimension ({}) is supported", file.name(),
                         key, size, config.head_dim);
    }
  }
  if (config.hidden % 32 != 0 || config.head_dim % 32 != 0 || config.ffn % 32 != 0) {
    return Unsupported(
        "{}: embedding length {}, head dimension {} and feed-forward length {} must be multiples "
        "of 32",
        file.name(), config.hidden, config.head_dim, config.ffn);
  }
  return OkStatus();
}

Status ReadConstants(const gguf::File& file, LlamaConfig& config) {
  constexpr const char* kEps = "llama.attention.layer_norm_rms_epsilon";
  TANDEM_ASSIGN_OR_RETURN(const double eps, file.GetFloat(kEps));
  if (!(eps > 0 && eps < 1)) return InvalidArgument("{}: {} is {}", file.name(), kEps, eps);
  config.rms_eps = static_cast<float>(eps);
  constexpr const char* kTheta = "llama.rope.freq_base";
  if (file.Has(kTheta)) {
    TANDEM_ASSIGN_OR_RETURN(const double theta, file.GetFloat(kTheta));
    if (!(theta > 1 && theta < 1e12)) {
      return InvalidArgument("{}: {} is {}", file.name(), kTheta, theta);
    }
    config.rope_theta = static_cast<float>(theta);
  }
  return OkStatus();
}

struct Expected {
  std::string name;
  int64_t rows = 1, cols = 0;
  bool is_vector() const { return rows == 1; }
};

std::vector<Expected> ExpectedTensors(const LlamaConfig& c) {
  const int64_t q = static_cast<int64_t>(c.num_heads) * c.head_dim;
  const int64_t kv = static_cast<int64_t>(c.num_kv_heads) * c.head_dim;
  std::vector<Expected> all = {{"token_embd.weight", c.vocab, c.hidden},
                               {"output_norm.weight", 1, c.hidden}};
  if (!c.tied_embeddings) all.push_back({"output.weight", c.vocab, c.hidden});
  for (int i = 0; i < c.num_layers; ++i) {
    all.push_back({LayerTensorName(i, "attn_norm"), 1, c.hidden});
    all.push_back({LayerTensorName(i, "attn_q"), q, c.hidden});
    all.push_back({LayerTensorName(i, "attn_k"), kv, c.hidden});
    all.push_back({LayerTensorName(i, "attn_v"), kv, c.hidden});
    all.push_back({LayerTensorName(i, "attn_output"), c.hidden, q});
    all.push_back({LayerTensorName(i, "ffn_norm"), 1, c.hidden});
    all.push_back({LayerTensorName(i, "ffn_gate"), c.ffn, c.hidden});
    all.push_back({LayerTensorName(i, "ffn_up"), c.ffn, c.hidden});
    all.push_back({LayerTensorName(i, "ffn_down"), c.hidden, c.ffn});
  }
  return all;
}

Status CheckTensor(const gguf::File& file, const Expected& want) {
  const gguf::Tensor* tensor = file.Find(want.name);
  if (tensor == nullptr) {
    return InvalidArgument("{}: tensor {} of shape [{}, {}] is missing", file.name(), want.name,
                           want.rows, want.cols);
  }
  if (tensor->rows() != want.rows || tensor->cols() != want.cols) {
    return InvalidArgument("{}: tensor {} has shape [{}, {}], expected [{}, {}]", file.name(),
                           want.name, tensor->rows(), tensor->cols(), want.rows, want.cols);
  }
  if (!gguf::IsSupported(tensor->type)) {
    return Unsupported(
        "{}: tensor {} is of type {}, which is not supported; supported: F32, F16, Q4_0, Q4_1, "
        "Q8_0",
        file.name(), want.name, gguf::TypeName(tensor->type));
  }
  if (want.is_vector() && tensor->type != gguf::TensorType::kF32) {
    return Unsupported("{}: tensor {} is of type {}, but norms are supported in F32 only",
                       file.name(), want.name, gguf::TypeName(tensor->type));
  }
  return OkStatus();
}

// Matrices that are packed into one must be of one type.
Status CheckEqualTypes(const gguf::File& file, int layer,
                       std::initializer_list<const char*> kinds) {
  const gguf::Tensor* first = file.Find(LayerTensorName(layer, *kinds.begin()));
  for (const char* kind : kinds) {
    const gguf::Tensor* tensor = file.Find(LayerTensorName(layer, kind));
    if (tensor->type != first->type) {
      return Unsupported("{}: tensors {} ({}) and {} ({}) of different types are not supported",
                         file.name(), first->name, gguf::TypeName(first->type), tensor->name,
                         gguf::TypeName(tensor->type));
    }
  }
  return OkStatus();
}

// Every tensor must be there, and no other: one that is left unread (a bias, rope factors) would
// change what the model computes.
Status CheckTensors(const gguf::File& file, const LlamaConfig& config) {
  std::set<std::string_view> known;
  const std::vector<Expected> expected = ExpectedTensors(config);
  for (const Expected& want : expected) {
    TANDEM_RETURN_IF_ERROR(CheckTensor(file, want));
    known.insert(want.name);
  }
  for (int i = 0; i < config.num_layers; ++i) {
    TANDEM_RETURN_IF_ERROR(CheckEqualTypes(file, i, {"attn_q", "attn_k", "attn_v"}));
    TANDEM_RETURN_IF_ERROR(CheckEqualTypes(file, i, {"ffn_gate", "ffn_up"}));
  }
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (!known.contains(tensor.name)) {
      return Unsupported("{}: tensor {} is not part of a Llama model that is supported",
                         file.name(), tensor.name);
    }
  }
  return OkStatus();
}

}  // namespace

std::string LayerTensorName(int layer, const char* kind) {
  return fmt::format("blk.{}.{}.weight", layer, kind);
}

StatusOr<LlamaConfig> ReadLlamaConfig(const gguf::File& file) {
  TANDEM_RETURN_IF_ERROR(CheckArchitecture(file));
  LlamaConfig config;
  TANDEM_RETURN_IF_ERROR(ReadSizes(file, config));
  TANDEM_RETURN_IF_ERROR(ReadConstants(file, config));
  const gguf::Tensor* embedding = file.Find("token_embd.weight");
  if (embedding == nullptr) {
    return InvalidArgument("{}: tensor token_embd.weight is missing", file.name());
  }
  if (embedding->rows() > kMost) {
    return InvalidArgument("{}: a vocabulary of {} tokens is too large", file.name(),
                           embedding->rows());
  }
  config.vocab = static_cast<int>(embedding->rows());
  config.tied_embeddings = file.Find("output.weight") == nullptr;
  // Before the list of expected tensors is made from a number of layers that the file merely says.
  if (static_cast<size_t>(config.num_layers) > file.tensors().size()) {
    return InvalidArgument("{}: {} layers, but only {} tensors", file.name(), config.num_layers,
                           file.tensors().size());
  }
  TANDEM_RETURN_IF_ERROR(CheckTensors(file, config));
  return config;
}

}  // namespace tandem::model

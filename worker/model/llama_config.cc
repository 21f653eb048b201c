#include "worker/model/llama_config.h"

#include <cmath>
#include <cstring>
#include <set>
#include <vector>

namespace tandem::model {
namespace {

constexpr int64_t kMost = 1 << 24;  // of any dimension: keeps products of two in int64 and honest
constexpr const char* kRopeFreqs = "rope_freqs.weight";

// What the architectures that are known differ in; the rest the file says itself.
struct Family {
  const char* architecture;
  kernels::RopePairs rope_pairs;
  bool qkv_bias;  // must be there; the others may have it
  bool qk_norm;
  bool rope_freqs;      // may have rope_freqs.weight
  bool sliding_window;  // the key, if there, holds for every layer
};
constexpr Family kFamilies[] = {
    {"llama", kernels::RopePairs::kAdjacent, false, false, true, true},
    {"qwen2", kernels::RopePairs::kHalves, true, false, false, false},
    {"qwen3", kernels::RopePairs::kHalves, false, true, false, false},
};

// The keys of one architecture: "block_count" is "llama.block_count".
class Keys {
 public:
  Keys(const gguf::File& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  std::string Name(const char* key) const { return prefix_ + key; }
  bool Has(const char* key) const { return file_.Has(Name(key)); }

  StatusOr<int> Size(const char* key) const {
    TANDEM_ASSIGN_OR_RETURN(const int64_t value, file_.GetInt(Name(key)));
    if (value < 1 || value > kMost) {
      return InvalidArgument("{}: {} is {}, expected 1 to {}", file_.name(), Name(key), value,
                             kMost);
    }
    return static_cast<int>(value);
  }
  StatusOr<int> SizeOr(const char* key, int absent) const {
    return Has(key) ? Size(key) : StatusOr<int>(absent);
  }

  // In (low, high).
  StatusOr<double> Float(const char* key, double low, double high) const {
    TANDEM_ASSIGN_OR_RETURN(const double value, file_.GetFloat(Name(key)));
    if (!(value > low && value < high)) {
      return InvalidArgument("{}: {} is {}, expected between {} and {}", file_.name(), Name(key),
                             value, low, high);
    }
    return value;
  }
  StatusOr<double> FloatOr(const char* key, double low, double high, double absent) const {
    return Has(key) ? Float(key, low, high) : StatusOr<double>(absent);
  }

  // That a factor which this program does not know of would do nothing.
  Status CheckNeutral(const char* key, double neutral) const {
    if (!Has(key)) return OkStatus();
    TANDEM_ASSIGN_OR_RETURN(const double value, file_.GetFloat(Name(key)));
    if (value == neutral) return OkStatus();
    return Unsupported("{}: {} ({}) is not supported", file_.name(), Name(key), value);
  }

  const gguf::File& file() const { return file_; }

 private:
  const gguf::File& file_;
  std::string prefix_;
};

StatusOr<Family> FindFamily(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view architecture,
                          file.GetString("general.architecture"));
  std::string known;
  for (const Family& family : kFamilies) {
    if (architecture == family.architecture) return family;
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", family.architecture);
  }
  return Unsupported("{}: architecture \"{}\" is not supported; supported: {}", file.name(),
                     architecture, known);
}

Status CheckNothingElse(const Keys& keys) {
  if (keys.Has("expert_count")) {
    TANDEM_ASSIGN_OR_RETURN(const int64_t experts, keys.file().GetInt(keys.Name("expert_count")));
    if (experts > 0) {
      return Unsupported("{}: mixture of experts ({} experts) is not supported", keys.file().name(),
                         experts);
    }
  }
  if (keys.Has("attention.causal")) {
    TANDEM_ASSIGN_OR_RETURN(const bool causal, keys.file().GetBool(keys.Name("attention.causal")));
    if (!causal) return Unsupported("{}: not a causal model", keys.file().name());
  }
  for (const char* key :
       {"attention.scale", "attention.temperature_scale", "attention.clamp_kqv",
        "attention.max_alibi_bias", "attn_logit_softcapping", "final_logit_softcapping",
        "logit_scale", "residual_scale", "embedding_scale", "rope.scaling.alpha",
        "rope.scaling.yarn_log_multiplier"}) {
    TANDEM_RETURN_IF_ERROR(keys.CheckNeutral(key, 0));
  }
  for (const char* key : {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    TANDEM_RETURN_IF_ERROR(keys.CheckNeutral(key, 1));
  }
  return OkStatus();
}

Status ReadSizes(const Keys& keys, LlamaConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(config.num_layers, keys.Size("block_count"));
  TANDEM_ASSIGN_OR_RETURN(config.hidden, keys.Size("embedding_length"));
  TANDEM_ASSIGN_OR_RETURN(config.num_heads, keys.Size("attention.head_count"));
  TANDEM_ASSIGN_OR_RETURN(config.num_kv_heads,
                          keys.SizeOr("attention.head_count_kv", config.num_heads));
  TANDEM_ASSIGN_OR_RETURN(config.ffn, keys.Size("feed_forward_length"));
  TANDEM_ASSIGN_OR_RETURN(config.max_context, keys.Size("context_length"));
  TANDEM_ASSIGN_OR_RETURN(config.head_dim,
                          keys.SizeOr("attention.key_length", config.hidden / config.num_heads));
  const std::string& name = keys.file().name();
  const int heads = config.num_heads, kv = config.num_kv_heads;
  if (kv > heads || heads % kv != 0) {
    return InvalidArgument("{}: {} KV heads do not divide {} heads", name, kv, heads);
  }
  for (const char* key : {"rope.dimension_count", "attention.value_length"}) {
    TANDEM_ASSIGN_OR_RETURN(const int size, keys.SizeOr(key, config.head_dim));
    if (size != config.head_dim) {
      return Unsupported("{}: {} is {}, but only the head dimension ({}) is supported", name,
                         keys.Name(key), size, config.head_dim);
    }
  }
  if (config.hidden % 32 != 0 || config.head_dim % 32 != 0 || config.ffn % 32 != 0) {
    return Unsupported(
        "{}: embedding length {}, head dimension {} and feed-forward length {} must be multiples "
        "of 32",
        name, config.hidden, config.head_dim, config.ffn);
  }
  return OkStatus();
}

Status ReadWindow(const Keys& keys, const Family& family, LlamaConfig& config) {
  constexpr const char* kWindow = "attention.sliding_window";
  if (!keys.Has(kWindow)) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const int64_t window, keys.file().GetInt(keys.Name(kWindow)));
  if (window <= 0 || window >= config.max_context) return OkStatus();  // sees everything
  constexpr const char* kPattern = "attention.sliding_window_pattern";
  if (!family.sliding_window || keys.Has(kPattern)) {
    return Unsupported("{}: {} ({}){} is not supported for architecture \"{}\"", keys.file().name(),
                       keys.Name(kWindow), window, keys.Has(kPattern) ? " with a pattern" : "",
                       family.architecture);
  }
  config.sliding_window = static_cast<int>(window);
  return OkStatus();
}

StatusOr<kernels::RopeScaling> ReadScaling(const Keys& keys, int max_context) {
  using Type = kernels::RopeScaling::Type;
  kernels::RopeScaling scaling;
  // As llama.cpp reads them: a factor without a type is linear, and has an older name.
  TANDEM_ASSIGN_OR_RETURN(const double older, keys.FloatOr("rope.scale_linear", 0, 1e6, 1));
  TANDEM_ASSIGN_OR_RETURN(scaling.factor, keys.FloatOr("rope.scaling.factor", 0, 1e6, older));
  TANDEM_ASSIGN_OR_RETURN(scaling.attention_factor,
                          keys.FloatOr("rope.scaling.attn_factor", 0, 1e6, 1));
  std::string_view type = scaling.factor == 1 ? "none" : "linear";
  if (keys.Has("rope.scaling.type")) {
    TANDEM_ASSIGN_OR_RETURN(type, keys.file().GetString(keys.Name("rope.scaling.type")));
  }
  if (type == "none") {
    scaling.factor = 1;
  } else if (type == "linear") {
    scaling.type = Type::kLinear;
  } else if (type == "yarn") {
    scaling.type = Type::kYarn;
    scaling.attention_factor *= kernels::YarnAttentionFactor(scaling.factor);
    TANDEM_ASSIGN_OR_RETURN(scaling.original_context,
                            keys.SizeOr("rope.scaling.original_context_length", max_context));
    TANDEM_ASSIGN_OR_RETURN(scaling.beta_fast,
                            keys.FloatOr("rope.scaling.yarn_beta_fast", 0, 1e6, 32));
    TANDEM_ASSIGN_OR_RETURN(scaling.beta_slow,
                            keys.FloatOr("rope.scaling.yarn_beta_slow", 0, 1e6, 1));
  } else {
    return Unsupported("{}: rope scaling \"{}\" is not supported; supported: none, linear, yarn",
                       keys.file().name(), type);
  }
  return scaling;
}

Status ReadConstants(const Keys& keys, LlamaConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const double eps, keys.Float("attention.layer_norm_rms_epsilon", 0, 1));
  config.rms_eps = static_cast<float>(eps);
  TANDEM_ASSIGN_OR_RETURN(const double theta, keys.FloatOr("rope.freq_base", 1, 1e12, 10000));
  config.rope_theta = static_cast<float>(theta);
  TANDEM_ASSIGN_OR_RETURN(config.rope_scaling, ReadScaling(keys, config.max_context));
  return OkStatus();
}

// What only the tensors tell.
Status ReadParts(const gguf::File& file, const Family& family, LlamaConfig& config) {
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
  config.qkv_bias = family.qkv_bias || file.Find(LayerBiasName(0, "attn_q")) != nullptr;
  config.qk_norm = family.qk_norm;
  config.rope_freqs = family.rope_freqs && file.Find(kRopeFreqs) != nullptr;
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
  if (c.rope_freqs) all.push_back({kRopeFreqs, 1, c.head_dim / 2});
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
    if (c.qkv_bias) {
      all.push_back({LayerBiasName(i, "attn_q"), 1, q});
      all.push_back({LayerBiasName(i, "attn_k"), 1, kv});
      all.push_back({LayerBiasName(i, "attn_v"), 1, kv});
    }
    if (c.qk_norm) {
      all.push_back({LayerTensorName(i, "attn_q_norm"), 1, c.head_dim});
      all.push_back({LayerTensorName(i, "attn_k_norm"), 1, c.head_dim});
    }
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
    return Unsupported("{}: tensor {} is of type {}, but vectors are supported in F32 only",
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

// Every tensor must be there, and no other: one that is left unread (another bias, rope factors)
// would change what the model computes.
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
      return Unsupported("{}: tensor {} is not part of a {} model that is supported", file.name(),
                         tensor.name, config.architecture);
    }
  }
  return OkStatus();
}

Status CheckRopeFreqs(const gguf::File& file) {
  const gguf::Tensor& tensor = *file.Find(kRopeFreqs);
  std::vector<float> values(static_cast<size_t>(tensor.cols()));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  for (const float value : values) {
    if (!(value > 0 && std::isfinite(value))) {
      return InvalidArgument("{}: tensor {} has a factor of {}", file.name(), kRopeFreqs, value);
    }
  }
  return OkStatus();
}

}  // namespace

std::string LayerTensorName(int layer, const char* kind) {
  return fmt::format("blk.{}.{}.weight", layer, kind);
}
std::string LayerBiasName(int layer, const char* kind) {
  return fmt::format("blk.{}.{}.bias", layer, kind);
}

StatusOr<LlamaConfig> ReadLlamaConfig(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const Family family, FindFamily(file));
  const Keys keys(file, family.architecture);
  TANDEM_RETURN_IF_ERROR(CheckNothingElse(keys));
  LlamaConfig config;
  config.architecture = family.architecture;
  config.rope_pairs = family.rope_pairs;
  TANDEM_RETURN_IF_ERROR(ReadSizes(keys, config));
  TANDEM_RETURN_IF_ERROR(ReadWindow(keys, family, config));
  TANDEM_RETURN_IF_ERROR(ReadConstants(keys, config));
  TANDEM_RETURN_IF_ERROR(ReadParts(file, family, config));
  // Before the list of expected tensors is made from a number of layers that the file merely says.
  if (static_cast<size_t>(config.num_layers) > file.tensors().size()) {
    return InvalidArgument("{}: {} layers, but only {} tensors", file.name(), config.num_layers,
                           file.tensors().size());
  }
  TANDEM_RETURN_IF_ERROR(CheckTensors(file, config));
  if (config.rope_freqs) TANDEM_RETURN_IF_ERROR(CheckRopeFreqs(file));
  return config;
}

kernels::RopeSpec RopeSpecOf(const LlamaConfig& config, int max_positions,
                             std::span<const float> freq_factors) {
  kernels::RopeSpec spec;
  spec.dims = config.head_dim;
  spec.theta = config.rope_theta;
  spec.max_positions = max_positions;
  spec.pairs = config.rope_pairs;
  spec.scaling = config.rope_scaling;
  spec.freq_factors = freq_factors;
  return spec;
}

}  // namespace tandem::model

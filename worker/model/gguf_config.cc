#include "worker/model/gguf_config.h"

#include <cmath>
#include <cstring>

#include "worker/model/families.h"

namespace tandem::model {
namespace {

constexpr int64_t kMost = 1 << 24;  // of any dimension: keeps products of two in int64 and honest
constexpr int kMostExperts = 4096;
constexpr const char* kRopeFreqs = "rope_freqs.weight";
constexpr const char* kShortFactors = "rope_factors_short.weight";
constexpr const char* kLongFactors = "rope_factors_long.weight";

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
  const std::string& file_name() const { return file_.name(); }

 private:
  const gguf::File& file_;
  std::string prefix_;
};

StatusOr<const Family*> FindFamily(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const std::string_view architecture,
                          file.GetString("general.architecture"));
  const Family* family = FamilyOfGguf(architecture);
  if (family != nullptr) return family;
  return Unsupported("{}: architecture \"{}\" is not supported; supported: {}", file.name(),
                     architecture, KnownGguf());
}

// Factors that a family may have; 0 is none.
constexpr const char* kEmbeddingScale = "embedding_scale";
constexpr const char* kResidualScale = "residual_scale";
constexpr const char* kAttentionScale = "attention.scale";
constexpr const char* kLogitScale = "logit_scale";

Status CheckNothingElse(const Keys& keys, const Family& family) {
  if (keys.Has("attention.causal")) {
    TANDEM_ASSIGN_OR_RETURN(const bool causal, keys.file().GetBool(keys.Name("attention.causal")));
    if (!causal) return Unsupported("{}: not a causal model", keys.file_name());
  }
  for (const char* key :
       {"attention.temperature_scale", "attention.clamp_kqv", "attention.max_alibi_bias",
        "rope.scaling.alpha", "rope.scaling.yarn_log_multiplier", "expert_shared_count",
        "expert_weights_scale", "leading_dense_block_count"}) {
    TANDEM_RETURN_IF_ERROR(keys.CheckNeutral(key, 0));
  }
  for (const char* key : {kEmbeddingScale, kResidualScale, kAttentionScale, kLogitScale}) {
    if (!family.multipliers) TANDEM_RETURN_IF_ERROR(keys.CheckNeutral(key, 0));
  }
  for (const char* key : {"rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"}) {
    TANDEM_RETURN_IF_ERROR(keys.CheckNeutral(key, 1));
  }
  return OkStatus();
}

Status ReadExperts(const Keys& keys, const Family& family, ModelConfig& config) {
  if (!keys.Has("expert_count")) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const int64_t experts, keys.file().GetInt(keys.Name("expert_count")));
  if (experts == 0) return OkStatus();
  if (!family.experts || experts < 0 || experts > kMostExperts) {
    return Unsupported("{}: mixture of experts ({} experts) is not supported for architecture {}",
                       keys.file_name(), experts, family.name);
  }
  config.num_experts = static_cast<int>(experts);
  TANDEM_ASSIGN_OR_RETURN(config.experts_per_token, keys.Size("expert_used_count"));
  config.normalize_experts = true;
  TANDEM_ASSIGN_OR_RETURN(config.ffn, keys.SizeOr("expert_feed_forward_length", config.ffn));
  return OkStatus();
}

Status ReadSizes(const Keys& keys, const Family& family, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(config.num_layers, keys.Size("block_count"));
  TANDEM_ASSIGN_OR_RETURN(config.hidden, keys.Size("embedding_length"));
  TANDEM_ASSIGN_OR_RETURN(config.num_heads, keys.Size("attention.head_count"));
  TANDEM_ASSIGN_OR_RETURN(config.num_kv_heads,
                          keys.SizeOr("attention.head_count_kv", config.num_heads));
  // Of a model of experts alone it may be missing.
  TANDEM_ASSIGN_OR_RETURN(config.ffn, family.experts && keys.Has("expert_feed_forward_length")
                                          ? keys.SizeOr("feed_forward_length", 32)
                                          : keys.Size("feed_forward_length"));
  TANDEM_ASSIGN_OR_RETURN(config.max_context, keys.Size("context_length"));
  TANDEM_ASSIGN_OR_RETURN(config.head_dim,
                          keys.SizeOr("attention.key_length", config.hidden / config.num_heads));
  TANDEM_ASSIGN_OR_RETURN(const int value_length,
                          keys.SizeOr("attention.value_length", config.head_dim));
  if (value_length != config.head_dim) {
    return Unsupported("{}: {} is {}, but only the head dimension ({}) is supported",
                       keys.file_name(), keys.Name("attention.value_length"), value_length,
                       config.head_dim);
  }
  return ReadExperts(keys, family, config);
}

// Of layers with a period: every period-th sees everything.
StatusOr<int> WindowPeriod(const Keys& keys, const Family& family) {
  constexpr const char* kPattern = "attention.sliding_window_pattern";
  if (!keys.Has(kPattern)) return family.window_period;
  if (family.windows != Windows::kMost) {
    return Unsupported("{}: {} is not supported for architecture \"{}\"", keys.file_name(),
                       keys.Name(kPattern), family.gguf);
  }
  return keys.Size(kPattern);
}

Status ReadLayers(const Keys& keys, const Family& family, ModelConfig& config) {
  constexpr const char* kWindow = "attention.sliding_window";
  config.layers.resize(config.num_layers);
  for (int i = 0; i < config.num_layers; ++i) {
    const bool none = family.nope_interval > 0 && (i + 1) % family.nope_interval == 0;
    if (none) config.layers[i].rope = kNoRope;
  }
  TANDEM_ASSIGN_OR_RETURN(const int period, WindowPeriod(keys, family));
  if (!keys.Has(kWindow)) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const int64_t window, keys.file().GetInt(keys.Name(kWindow)));
  const bool filled = window > 0 && window < config.max_context;
  if (filled && family.windows != Windows::kAll && family.windows != Windows::kMost) {
    return Unsupported("{}: {} ({}) is not supported for architecture \"{}\"", keys.file_name(),
                       keys.Name(kWindow), window, family.gguf);
  }
  for (int i = 0; i < config.num_layers; ++i) {
    LayerConfig& layer = config.layers[i];
    if (family.windows == Windows::kMost && (i + 1) % period == 0) continue;
    if (filled) layer.window = static_cast<int>(window);
    if (family.local_theta > 0) layer.rope = 1;  // whether its window is ever filled or not
  }
  return OkStatus();
}

StatusOr<kernels::RopeScaling> ReadScaling(const Keys& keys, const Family& family,
                                           int max_context) {
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
  if (type == "none" || (type == "longrope" && family.long_rope)) {
    scaling.factor = 1;  // those of longrope are tensors
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
                       keys.file_name(), type);
  }
  return scaling;
}

// [n] float32, or nothing if there is none of that name.
StatusOr<std::vector<float>> Factors(const gguf::File& file, const char* name) {
  const gguf::Tensor* tensor = file.Find(name);
  if (tensor == nullptr) return std::vector<float>();
  if (tensor->type != gguf::TensorType::kF32 || tensor->rows() != 1) {
    return Unsupported("{}: tensor {} is not a vector of F32", file.name(), name);
  }
  std::vector<float> values(static_cast<size_t>(tensor->cols()));
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

Status ReadFactors(const Keys& keys, const Family& family, int max_context, RopeConfig& rope) {
  if (family.rope_freqs) {
    TANDEM_ASSIGN_OR_RETURN(rope.freq_factors, Factors(keys.file(), kRopeFreqs));
  }
  if (!family.long_rope) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(rope.freq_factors, Factors(keys.file(), kShortFactors));
  TANDEM_ASSIGN_OR_RETURN(rope.long_factors, Factors(keys.file(), kLongFactors));
  TANDEM_ASSIGN_OR_RETURN(rope.short_context,
                          keys.SizeOr("rope.scaling.original_context_length", max_context));
  return OkStatus();
}

Status ReadRopes(const Keys& keys, const Family& family, ModelConfig& config) {
  RopeConfig rope;
  rope.pairs = family.gguf_pairs;
  TANDEM_ASSIGN_OR_RETURN(rope.dims, keys.SizeOr("rope.dimension_count", config.head_dim));
  TANDEM_ASSIGN_OR_RETURN(rope.theta, keys.FloatOr("rope.freq_base", 1, 1e12, 10000));
  TANDEM_ASSIGN_OR_RETURN(rope.scaling, ReadScaling(keys, family, config.max_context));
  TANDEM_RETURN_IF_ERROR(ReadFactors(keys, family, config.max_context, rope));
  config.ropes.push_back(rope);
  if (family.local_theta == 0) return OkStatus();
  RopeConfig local;
  local.pairs = rope.pairs;
  local.dims = rope.dims;
  TANDEM_ASSIGN_OR_RETURN(local.theta,
                          keys.FloatOr("rope.freq_base_swa", 1, 1e12, family.local_theta));
  config.ropes.push_back(local);
  return OkStatus();
}

// As llama.cpp reads them: what is missing or 0 is as in a Llama.
StatusOr<double> Factor(const Keys& keys, const char* key, double none) {
  TANDEM_ASSIGN_OR_RETURN(const double value, keys.FloatOr(key, -1e-9, 1e6, 0));
  return value < 1e-6 ? none : value;
}

Status ReadMultipliers(const Keys& keys, ModelConfig& config) {
  Multipliers factors;
  TANDEM_ASSIGN_OR_RETURN(factors.embedding, Factor(keys, kEmbeddingScale, 1));
  TANDEM_ASSIGN_OR_RETURN(factors.residual, Factor(keys, kResidualScale, 1));
  TANDEM_ASSIGN_OR_RETURN(const double divisor, Factor(keys, kLogitScale, 1));
  factors.logits = 1 / divisor;
  SetMultipliers(factors, config);
  TANDEM_ASSIGN_OR_RETURN(const double scores,
                          Factor(keys, kAttentionScale, config.attention_scale));
  config.attention_scale = static_cast<float>(scores);
  return OkStatus();
}

Status ReadConstants(const Keys& keys, const Family& family, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const double eps, keys.Float("attention.layer_norm_rms_epsilon", 0, 1));
  config.rms_eps = static_cast<float>(eps);
  // llama.cpp tells the two largest Gemmas by their layers: their scale is that of hidden / heads.
  const bool by_hidden = (family.name == std::string_view("gemma2") && config.num_layers == 46) ||
                         (family.name == std::string_view("gemma3") && config.num_layers == 62);
  const double scaled_dim =
      by_hidden ? static_cast<double>(config.hidden) / config.num_heads : config.head_dim;
  config.attention_scale = static_cast<float>(1 / std::sqrt(scaled_dim));
  TANDEM_ASSIGN_OR_RETURN(const double attention,
                          keys.FloatOr("attn_logit_softcapping", -1e-9, 1e6, 0));
  TANDEM_ASSIGN_OR_RETURN(const double final,
                          keys.FloatOr("final_logit_softcapping", -1e-9, 1e6, 0));
  if (attention > 0 && !family.attention_softcap) {
    return Unsupported("{}: {} ({}) is not supported for {}", keys.file_name(),
                       keys.Name("attn_logit_softcapping"), attention, family.name);
  }
  config.attention_softcap = static_cast<float>(attention);
  config.logit_softcap = static_cast<float>(final);
  config.qk_norm = family.qk_norm;
  config.post_norms = family.post_norms;
  if (family.gelu) config.activation = kernels::Activation::kGeluTanh;
  if (family.scaled_embeddings) {
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden));
  }
  if (family.multipliers) TANDEM_RETURN_IF_ERROR(ReadMultipliers(keys, config));
  return OkStatus();
}

// What only the tensors tell.
Status ReadParts(const gguf::File& file, const Family& family, ModelConfig& config) {
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
  const auto optional = [&](const char* kind) {
    return family.bias == QkvBias::kOptional && file.Find(LayerBiasName(0, kind)) != nullptr;
  };
  config.qkv_bias = family.bias == QkvBias::kAlways || optional("attn_q");
  config.o_bias = optional("attn_output");
  return OkStatus();
}

kernels::WeightType TypeOf(gguf::TensorType type) {
  using gguf::TensorType;
  using kernels::WeightType;
  switch (type) {
    case TensorType::kF32:
      return WeightType::kF32;
    case TensorType::kF16:
      return WeightType::kF16;
    case TensorType::kBf16:
      return WeightType::kBf16;
    case TensorType::kQ4_0:
      return WeightType::kQ4_0;
    case TensorType::kQ4_1:
      return WeightType::kQ4_1;
    case TensorType::kQ8_0:
      return WeightType::kQ8_0;
    case TensorType::kQ5_0:
      return WeightType::kQ5_0;
    case TensorType::kQ5_1:
      return WeightType::kQ5_1;
    case TensorType::kIq4Nl:
      return WeightType::kIq4Nl;
    case TensorType::kQ2K:
      return WeightType::kQ2K;
    case TensorType::kQ3K:
      return WeightType::kQ3K;
    case TensorType::kQ4K:
      return WeightType::kQ4K;
    case TensorType::kQ5K:
      return WeightType::kQ5K;
    case TensorType::kQ6K:
      return WeightType::kQ6K;
  }
  __builtin_unreachable();  // IsSupported was asked
}

StatusOr<ModelTensor> ReadTensor(const gguf::File& file, const gguf::Tensor& tensor) {
  if (!gguf::IsSupported(tensor.type)) {
    return Unsupported("{}: tensor {} is of type {}, which is not supported; supported: {}",
                       file.name(), tensor.name, gguf::TypeName(tensor.type),
                       gguf::SupportedTypes());
  }
  ModelTensor out;
  out.slice = {TypeOf(tensor.type), tensor.data.data(), tensor.cols(), 0, tensor.rows(), 0,
               tensor.cols()};
  out.source = tensor.name;
  out.type_name = gguf::TypeName(tensor.type);
  return out;
}

// What a fused tensor holds, one below the other; nothing if it is not fused.
std::vector<TensorPart> PartsOf(std::string_view name, const ModelConfig& c, bool fused) {
  std::vector<TensorPart> parts;
  for (int i = 0; fused && i < c.num_layers; ++i) {
    const int64_t dim = c.head_dim;
    if (name == LayerTensorName(i, "attn_qkv")) {
      return {{LayerTensorName(i, "attn_q"), c.num_heads * dim},
              {LayerTensorName(i, "attn_k"), c.num_kv_heads * dim},
              {LayerTensorName(i, "attn_v"), c.num_kv_heads * dim}};
    }
    if (name == LayerTensorName(i, "ffn_up")) {
      return {{LayerTensorName(i, "ffn_gate"), c.ffn}, {LayerTensorName(i, "ffn_up"), c.ffn}};
    }
  }
  for (int i = 0; c.num_experts > 0 && i < c.num_layers; ++i) {
    for (const char* kind : {"ffn_gate", "ffn_up", "ffn_down"}) {
      if (name != fmt::format("blk.{}.{}_exps.weight", i, kind)) continue;
      const int64_t rows = kind == std::string_view("ffn_down") ? c.hidden : c.ffn;
      for (int e = 0; e < c.num_experts; ++e) parts.push_back({ExpertTensorName(i, kind, e), rows});
      return parts;
    }
  }
  return parts;
}

}  // namespace

StatusOr<ModelConfig> ReadGgufConfig(const gguf::File& file) {
  TANDEM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(file));
  const Keys keys(file, family->gguf);
  TANDEM_RETURN_IF_ERROR(CheckNothingElse(keys, *family));
  ModelConfig config;
  config.architecture = family->name;
  TANDEM_RETURN_IF_ERROR(ReadSizes(keys, *family, config));
  // Before anything is made for a number of layers that the file merely says.
  if (static_cast<size_t>(config.num_layers) > file.tensors().size()) {
    return InvalidArgument("{}: {} layers, but only {} tensors", file.name(), config.num_layers,
                           file.tensors().size());
  }
  TANDEM_RETURN_IF_ERROR(ReadLayers(keys, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadRopes(keys, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadConstants(keys, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadParts(file, *family, config));
  TANDEM_RETURN_IF_ERROR(CheckModelConfig(config, file.name()));
  return config;
}

StatusOr<ModelTensors> ReadGgufTensors(const gguf::File& file, const ModelConfig& config) {
  const Family& family = *FamilyOfGguf(*file.GetString("general.architecture"));
  ModelTensors tensors;
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (family.rope_freqs && tensor.name == kRopeFreqs) continue;
    if (family.long_rope && (tensor.name == kShortFactors || tensor.name == kLongFactors)) continue;
    TANDEM_ASSIGN_OR_RETURN(const ModelTensor whole, ReadTensor(file, tensor));
    TANDEM_RETURN_IF_ERROR(AddTensor(std::string(tensor.name), whole,
                                     PartsOf(tensor.name, config, family.fused), file.name(),
                                     tensors));
  }
  return tensors;
}

}  // namespace tandem::model

#include "worker/model/huggingface_config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "worker/model/families.h"

namespace tandem::model {
namespace {

using huggingface::JsonConfig;

constexpr int64_t kMost = 1 << 24;  // of any dimension: keeps products of two in int64 and honest
constexpr int kMostExperts = 4096;

StatusOr<int> Size(const JsonConfig& json, const char* key) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t value, json.GetInt(key));
  if (value < 1 || value > kMost) {
    return InvalidArgument("{}: {} is {}, expected 1 to {}", json.name(), key, value, kMost);
  }
  return static_cast<int>(value);
}
StatusOr<int> SizeOr(const JsonConfig& json, const char* key, int absent) {
  return json.Has(key) ? Size(json, key) : StatusOr<int>(absent);
}

// In (low, high).
StatusOr<double> Float(const JsonConfig& json, const char* key, double low, double high) {
  TANDEM_ASSIGN_OR_RETURN(const double value, json.GetFloat(key));
  if (!(value > low && value < high)) {
    return InvalidArgument("{}: {} is {}, expected between {} and {}", json.name(), key, value, low,
                           high);
  }
  return value;
}
StatusOr<double> FloatOr(const JsonConfig& json, const char* key, double low, double high,
                         double absent) {
  return json.Has(key) ? Float(json, key, low, high) : StatusOr<double>(absent);
}
StatusOr<bool> BoolOr(const JsonConfig& json, const char* key, bool absent) {
  return json.Has(key) ? json.GetBool(key) : StatusOr<bool>(absent);
}

StatusOr<const Family*> FindFamily(const JsonConfig& json) {
  TANDEM_ASSIGN_OR_RETURN(const std::string type, json.GetString("model_type"));
  const Family* family = FamilyOfHuggingFace(type);
  if (family != nullptr) return family;
  return Unsupported("{}: model_type \"{}\" is not supported; supported: {}", json.name(), type,
                     KnownHuggingFace());
}

Status CheckNothingElse(const JsonConfig& json) {
  for (const char* key : {"mlp_bias", "lm_head_bias", "use_bidirectional_attention"}) {
    TANDEM_ASSIGN_OR_RETURN(const bool value, BoolOr(json, key, false));
    if (value) return Unsupported("{}: {} is not supported", json.name(), key);
  }
  for (const char* key : {"quantization_config", "vision_config"}) {
    if (json.Has(key)) return Unsupported("{}: {} is not supported", json.name(), key);
  }
  return OkStatus();
}

Status ReadSizes(const JsonConfig& json, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(config.num_layers, Size(json, "num_hidden_layers"));
  TANDEM_ASSIGN_OR_RETURN(config.hidden, Size(json, "hidden_size"));
  TANDEM_ASSIGN_OR_RETURN(config.num_heads, Size(json, "num_attention_heads"));
  TANDEM_ASSIGN_OR_RETURN(config.num_kv_heads,
                          SizeOr(json, "num_key_value_heads", config.num_heads));
  TANDEM_ASSIGN_OR_RETURN(config.head_dim,
                          SizeOr(json, "head_dim", config.hidden / config.num_heads));
  TANDEM_ASSIGN_OR_RETURN(config.ffn, Size(json, "intermediate_size"));
  TANDEM_ASSIGN_OR_RETURN(config.vocab, Size(json, "vocab_size"));
  TANDEM_ASSIGN_OR_RETURN(config.max_context, Size(json, "max_position_embeddings"));
  return OkStatus();
}

// Mixtral's keys and Qwen's.
Status ReadExperts(const JsonConfig& json, const Family& family, ModelConfig& config) {
  const bool local = json.Has("num_local_experts");
  TANDEM_ASSIGN_OR_RETURN(config.num_experts,
                          Size(json, local ? "num_local_experts" : "num_experts"));
  if (config.num_experts > kMostExperts) {
    return Unsupported("{}: {} experts are not supported; {} is the most", json.name(),
                       config.num_experts, kMostExperts);
  }
  TANDEM_ASSIGN_OR_RETURN(config.experts_per_token, Size(json, "num_experts_per_tok"));
  TANDEM_ASSIGN_OR_RETURN(config.normalize_experts,
                          BoolOr(json, "norm_topk_prob", family.normalizes_experts));
  TANDEM_ASSIGN_OR_RETURN(config.ffn, SizeOr(json, "moe_intermediate_size", config.ffn));
  TANDEM_ASSIGN_OR_RETURN(const int step, SizeOr(json, "decoder_sparse_step", 1));
  if (step != 1) {
    return Unsupported("{}: decoder_sparse_step ({}) is not supported", json.name(), step);
  }
  if (json.Has("mlp_only_layers")) {
    TANDEM_ASSIGN_OR_RETURN(const auto dense, json.GetInts("mlp_only_layers"));
    if (!dense.empty()) {
      return Unsupported("{}: mlp_only_layers ({} of them) are not supported", json.name(),
                         dense.size());
    }
  }
  return OkStatus();
}

// Whether layer i has the window, where no layer_types say so.
StatusOr<bool> HasWindow(const JsonConfig& json, const Family& family, int i) {
  switch (family.windows) {
    case Windows::kAll:
      return true;
    case Windows::kMost: {
      TANDEM_ASSIGN_OR_RETURN(const int period,
                              SizeOr(json, "sliding_window_pattern", family.window_period));
      return (i + 1) % period != 0;
    }
    case Windows::kLast: {
      TANDEM_ASSIGN_OR_RETURN(const bool used, BoolOr(json, "use_sliding_window", false));
      if (!used) return false;
      TANDEM_ASSIGN_OR_RETURN(const int64_t first, json.GetInt("max_window_layers"));
      return i >= first;
    }
    case Windows::kNone:
      break;
  }
  return Unsupported("{}: sliding_window is not supported for {}", json.name(), family.name);
}

Status ReadWindows(const JsonConfig& json, const Family& family, ModelConfig& config) {
  config.layers.resize(config.num_layers);
  std::vector<std::string> types;
  if (json.Has("layer_types")) {
    TANDEM_ASSIGN_OR_RETURN(types, json.GetStrings("layer_types"));
    if (types.size() != config.layers.size()) {
      return InvalidArgument("{}: {} layer_types for {} layers", json.name(), types.size(),
                             config.num_layers);
    }
  }
  const bool has_window = json.Has("sliding_window");
  int window = 0;
  if (has_window) {
    TANDEM_ASSIGN_OR_RETURN(window, Size(json, "sliding_window"));
  }
  for (int i = 0; i < config.num_layers; ++i) {
    bool slides = false;
    if (types.empty()) {
      if (has_window) {
        TANDEM_ASSIGN_OR_RETURN(slides, HasWindow(json, family, i));
      }
    } else {
      slides = types[i] == "sliding_attention";
      if (!slides && types[i] != "full_attention") {
        return Unsupported(
            "{}: layer_types has \"{}\"; supported: full_attention, "
            "sliding_attention",
            json.name(), types[i]);
      }
      if (slides && !has_window) {
        return InvalidArgument("{}: layer_types has windows, but sliding_window is missing",
                               json.name());
      }
    }
    if (!slides) continue;
    if (window < config.max_context) config.layers[i].window = window;
    if (family.local_theta > 0) config.layers[i].rope = 1;  // whether it is ever filled or not
  }
  return OkStatus();
}

// SmolLM3's layers that do not encode positions.
Status ReadNope(const JsonConfig& json, const Family& family, ModelConfig& config) {
  if (family.nope_interval == 0) return OkStatus();
  std::vector<int64_t> rope;  // 1: has it
  if (json.Has("no_rope_layers")) {
    TANDEM_ASSIGN_OR_RETURN(rope, json.GetInts("no_rope_layers"));
    if (rope.size() != config.layers.size()) {
      return InvalidArgument("{}: {} no_rope_layers for {} layers", json.name(), rope.size(),
                             config.num_layers);
    }
  } else {
    TANDEM_ASSIGN_OR_RETURN(const int interval,
                            SizeOr(json, "no_rope_layer_interval", family.nope_interval));
    for (int i = 0; i < config.num_layers; ++i) rope.push_back((i + 1) % interval != 0);
  }
  for (int i = 0; i < config.num_layers; ++i) {
    if (rope[i] == 0) config.layers[i].rope = kNoRope;
  }
  return OkStatus();
}

// Llama 3.1's scaling as divisors of the frequencies: pairs that turn more than high_freq_factor
// times in the original context keep theirs, those that turn less than low_freq_factor times are
// divided by the factor, those between by something between.
Status ReadLlama3(const JsonConfig& scaling, RopeConfig& rope) {
  TANDEM_ASSIGN_OR_RETURN(const double factor, Float(scaling, "factor", 0, 1e6));
  TANDEM_ASSIGN_OR_RETURN(const double low, Float(scaling, "low_freq_factor", 0, 1e6));
  TANDEM_ASSIGN_OR_RETURN(const double high, Float(scaling, "high_freq_factor", 0, 1e6));
  TANDEM_ASSIGN_OR_RETURN(const int original, Size(scaling, "original_max_position_embeddings"));
  if (high <= low) {
    return InvalidArgument("{}: high_freq_factor {} is not above low_freq_factor {}",
                           scaling.name(), high, low);
  }
  for (int i = 0; i < rope.dims / 2; ++i) {
    const double turns =
        original * std::pow(rope.theta, -2.0 * i / rope.dims) / (2 * std::numbers::pi);
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    rope.freq_factors.push_back(static_cast<float>(1 / ((1 - kept) / factor + kept)));
  }
  return OkStatus();
}

Status ReadYarn(const JsonConfig& scaling, ModelConfig& config, RopeConfig& rope) {
  rope.scaling.type = kernels::RopeScaling::Type::kYarn;
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.factor, Float(scaling, "factor", 0, 1e6));
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.original_context,
                          SizeOr(scaling, "original_max_position_embeddings", config.max_context));
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.beta_fast, FloatOr(scaling, "beta_fast", 0, 1e6, 32));
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.beta_slow, FloatOr(scaling, "beta_slow", 0, 1e6, 1));
  for (const char* key : {"mscale", "mscale_all_dim", "truncate"}) {
    if (scaling.Has(key)) {
      return Unsupported("{}: {} of YaRN is not supported", scaling.name(), key);
    }
  }
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.attention_factor,
                          FloatOr(scaling, "attention_factor", 0, 1e6,
                                  kernels::YarnAttentionFactor(rope.scaling.factor)));
  const double stretched = rope.scaling.factor * rope.scaling.original_context;
  config.max_context = std::max(config.max_context, static_cast<int>(std::min(stretched, 1e7)));
  return OkStatus();
}

StatusOr<std::vector<float>> Factors(const JsonConfig& scaling, const char* key) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<double> values, scaling.GetFloats(key));
  return std::vector<float>(values.begin(), values.end());
}

Status ReadLongRope(const JsonConfig& json, const JsonConfig& scaling, int max_context,
                    RopeConfig& rope) {
  TANDEM_ASSIGN_OR_RETURN(rope.freq_factors, Factors(scaling, "short_factor"));
  TANDEM_ASSIGN_OR_RETURN(rope.long_factors, Factors(scaling, "long_factor"));
  const bool inside = scaling.Has("original_max_position_embeddings");
  TANDEM_ASSIGN_OR_RETURN(
      rope.short_context,
      SizeOr(inside ? scaling : json, "original_max_position_embeddings", max_context));
  const double stretch = static_cast<double>(max_context) / rope.short_context;
  const double factor =
      stretch <= 1 ? 1 : std::sqrt(1 + std::log(stretch) / std::log(rope.short_context));
  TANDEM_ASSIGN_OR_RETURN(rope.scaling.attention_factor,
                          FloatOr(scaling, "attention_factor", 0, 1e6, factor));
  return OkStatus();
}

// `scaling`: rope_parameters, or rope_scaling of older writers.
Status ReadScaling(const JsonConfig& json, const JsonConfig& scaling, const Family& family,
                   ModelConfig& config, RopeConfig& rope) {
  std::string type = "default";
  for (const char* key : {"rope_type", "type"}) {
    if (!scaling.Has(key)) continue;
    TANDEM_ASSIGN_OR_RETURN(type, scaling.GetString(key));
    break;
  }
  // Dynamic scaling begins past max_position_embeddings, which is the most that is served.
  if (type == "default" || type == "dynamic") return OkStatus();
  if (type == "linear") {
    rope.scaling.type = kernels::RopeScaling::Type::kLinear;
    TANDEM_ASSIGN_OR_RETURN(rope.scaling.factor, Float(scaling, "factor", 0, 1e6));
    return OkStatus();
  }
  if (type == "llama3") return ReadLlama3(scaling, rope);
  if (type == "yarn") return ReadYarn(scaling, config, rope);
  if (family.long_rope && (type == "longrope" || type == "su")) {
    return ReadLongRope(json, scaling, config.max_context, rope);
  }
  return Unsupported(
      "{}: rope type \"{}\" is not supported; supported: default, dynamic, linear, llama3, yarn{}",
      scaling.name(), type, family.long_rope ? ", longrope" : "");
}

// One embedding: `parameters` has theta too, if transformers 5 wrote it.
StatusOr<RopeConfig> ReadRope(const JsonConfig& json, const JsonConfig& parameters,
                              const Family& family, double theta, ModelConfig& config) {
  RopeConfig rope;
  const JsonConfig& where = parameters.Has("partial_rotary_factor") ? parameters : json;
  TANDEM_ASSIGN_OR_RETURN(const double part,
                          FloatOr(where, "partial_rotary_factor", 0, 1.0000001, 1));
  if (part != 1 && !family.long_rope) {
    return Unsupported("{}: partial_rotary_factor ({}) is not supported for {}", where.name(), part,
                       family.name);
  }
  rope.dims = static_cast<int>(config.head_dim * part);
  TANDEM_ASSIGN_OR_RETURN(rope.theta, FloatOr(parameters, "rope_theta", 1, 1e12, theta));
  TANDEM_RETURN_IF_ERROR(ReadScaling(json, parameters, family, config, rope));
  return rope;
}

Status ReadRopes(const JsonConfig& json, const Family& family, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const double theta, FloatOr(json, "rope_theta", 1, 1e12, 10000));
  const JsonConfig none = *JsonConfig::Parse("{}", json.name());
  JsonConfig global = none, local = none;
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!json.Has(key)) continue;
    TANDEM_ASSIGN_OR_RETURN(global, json.GetObject(key));
    break;
  }
  if (global.IsObject("full_attention")) {  // one for each kind of layer
    TANDEM_ASSIGN_OR_RETURN(local, global.GetObject("sliding_attention"));
    TANDEM_ASSIGN_OR_RETURN(global, global.GetObject("full_attention"));
  }
  TANDEM_ASSIGN_OR_RETURN(RopeConfig rope, ReadRope(json, global, family, theta, config));
  config.ropes.push_back(std::move(rope));
  if (family.local_theta == 0) return OkStatus();
  TANDEM_ASSIGN_OR_RETURN(const double local_theta,
                          FloatOr(json, "rope_local_base_freq", 1, 1e12, family.local_theta));
  TANDEM_ASSIGN_OR_RETURN(rope, ReadRope(json, local, family, local_theta, config));
  config.ropes.push_back(std::move(rope));
  return OkStatus();
}

Status ReadActivation(const JsonConfig& json, const Family& family, ModelConfig& config) {
  const char* key = json.Has("hidden_activation") ? "hidden_activation" : "hidden_act";
  std::string activation = family.gelu ? "gelu_pytorch_tanh" : "silu";
  if (json.Has(key)) {
    TANDEM_ASSIGN_OR_RETURN(activation, json.GetString(key));
  }
  if (activation == "silu" || activation == "swish") {
    config.activation = kernels::Activation::kSilu;
  } else if (activation == "gelu_pytorch_tanh") {
    config.activation = kernels::Activation::kGeluTanh;
  } else {
    return Unsupported("{}: {} \"{}\" is not supported; supported: silu, gelu_pytorch_tanh",
                       json.name(), key, activation);
  }
  return OkStatus();
}

Status ReadBiases(const JsonConfig& json, const Family& family, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const bool bias, BoolOr(json, "attention_bias", false));
  if (bias && family.bias != QkvBias::kOptional) {
    return Unsupported("{}: attention_bias is not supported for {}", json.name(), family.name);
  }
  config.qkv_bias = bias || family.bias == QkvBias::kAlways;
  config.o_bias = bias;
  return OkStatus();
}

Status ReadMultipliers(const JsonConfig& json, ModelConfig& config) {
  Multipliers factors;
  TANDEM_ASSIGN_OR_RETURN(factors.embedding, FloatOr(json, "embedding_multiplier", 0, 1e6, 1));
  TANDEM_ASSIGN_OR_RETURN(factors.residual, FloatOr(json, "residual_multiplier", 1e-6, 1e6, 1));
  TANDEM_ASSIGN_OR_RETURN(const double divisor, FloatOr(json, "logits_scaling", 1e-6, 1e6, 1));
  factors.logits = 1 / divisor;
  SetMultipliers(factors, config);
  TANDEM_ASSIGN_OR_RETURN(const double scores, FloatOr(json, "attention_multiplier", 0, 1e6, 1));
  config.attention_scale = static_cast<float>(scores);
  return OkStatus();
}

Status ReadConstants(const JsonConfig& json, const Family& family, ModelConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const double eps, Float(json, "rms_norm_eps", 0, 1));
  config.rms_eps = static_cast<float>(eps);
  TANDEM_ASSIGN_OR_RETURN(config.tied_embeddings, BoolOr(json, "tie_word_embeddings", family.tied));
  TANDEM_ASSIGN_OR_RETURN(const double scale_of,
                          FloatOr(json, "query_pre_attn_scalar", 0, 1e9, config.head_dim));
  config.attention_scale = static_cast<float>(1 / std::sqrt(scale_of));
  TANDEM_ASSIGN_OR_RETURN(const double attention_cap,
                          FloatOr(json, "attn_logit_softcapping", 0, 1e6, 0));
  TANDEM_ASSIGN_OR_RETURN(const double logit_cap,
                          FloatOr(json, "final_logit_softcapping", 0, 1e6, 0));
  if (attention_cap > 0 && !family.attention_softcap) {
    return Unsupported("{}: attn_logit_softcapping ({}) is not supported for {}", json.name(),
                       attention_cap, family.name);
  }
  config.attention_softcap = static_cast<float>(attention_cap);
  config.logit_softcap = static_cast<float>(logit_cap);
  config.qk_norm = family.qk_norm;
  config.post_norms = family.post_norms;
  if (family.scaled_embeddings) {
    config.embedding_scale = std::sqrt(static_cast<float>(config.hidden));
  }
  if (family.multipliers) TANDEM_RETURN_IF_ERROR(ReadMultipliers(json, config));
  TANDEM_RETURN_IF_ERROR(ReadBiases(json, family, config));
  return ReadActivation(json, family, config);
}

}  // namespace

StatusOr<ModelConfig> ReadHuggingFaceConfig(const huggingface::ModelFolder& folder) {
  const JsonConfig& json = folder.config();
  TANDEM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(json));
  TANDEM_RETURN_IF_ERROR(CheckNothingElse(json));
  ModelConfig config;
  config.architecture = family->name;
  TANDEM_RETURN_IF_ERROR(ReadSizes(json, config));
  // Before anything is made for a number of layers that the file merely says.
  if (static_cast<size_t>(config.num_layers) > folder.tensors().size()) {
    return InvalidArgument("{}: {} layers, but only {} tensors", json.name(), config.num_layers,
                           folder.tensors().size());
  }
  const bool has_experts = json.Has("num_local_experts") || json.Has("num_experts");
  if (family->experts && has_experts) TANDEM_RETURN_IF_ERROR(ReadExperts(json, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadRopes(json, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadWindows(json, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadNope(json, *family, config));
  TANDEM_RETURN_IF_ERROR(ReadConstants(json, *family, config));
  TANDEM_RETURN_IF_ERROR(CheckModelConfig(config, json.name()));
  return config;
}

}  // namespace tandem::model

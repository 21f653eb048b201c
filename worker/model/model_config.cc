#include "worker/model/model_config.h"

#include <cmath>

namespace tandem::model {
namespace {

Status CheckRope(const RopeConfig& rope, const ModelConfig& config, const std::string& name) {
  if (rope.dims < 2 || rope.dims > config.head_dim || rope.dims % 2 != 0) {
    return InvalidArgument("{}: {} dimensions of a head of {} cannot be rotated", name, rope.dims,
                           config.head_dim);
  }
  for (const auto* factors : {&rope.freq_factors, &rope.long_factors}) {
    if (!factors->empty() && static_cast<int>(factors->size()) != rope.dims / 2) {
      return InvalidArgument("{}: {} rope factors for {} rotated dimensions", name, factors->size(),
                             rope.dims);
    }
    for (const float factor : *factors) {
      if (!(factor > 0 && std::isfinite(factor))) {
        return InvalidArgument("{}: a rope factor of {}", name, factor);
      }
    }
  }
  return OkStatus();
}

}  // namespace

// With r for `residual` and x = r y: x / sqrt(mean(x^2) + eps) = y / sqrt(mean(y^2) + eps / r^2).
void SetMultipliers(const Multipliers& factors, ModelConfig& config) {
  config.embedding_scale = static_cast<float>(factors.embedding / factors.residual);
  config.rms_eps = static_cast<float>(config.rms_eps / (factors.residual * factors.residual));
  config.logit_scale = static_cast<float>(factors.logits);
}

kernels::RopeSpec RopeSpecOf(const RopeConfig& rope, int max_positions, int max_context) {
  kernels::RopeSpec spec;
  spec.dims = rope.dims;
  spec.theta = rope.theta;
  spec.max_positions = max_positions;
  spec.pairs = rope.pairs;
  spec.scaling = rope.scaling;
  const bool is_long = !rope.long_factors.empty() && max_context > rope.short_context;
  spec.freq_factors = is_long ? rope.long_factors : rope.freq_factors;
  return spec;
}

Status CheckModelConfig(const ModelConfig& c, const std::string& name) {
  if (c.num_kv_heads > c.num_heads || c.num_heads % c.num_kv_heads != 0) {
    return InvalidArgument("{}: {} KV heads do not divide {} heads", name, c.num_kv_heads,
                           c.num_heads);
  }
  if (c.hidden % 32 != 0 || c.head_dim % 32 != 0 || c.ffn % 32 != 0) {
    return Unsupported(
        "{}: embedding length {}, head dimension {} and feed-forward length {} must be multiples "
        "of 32",
        name, c.hidden, c.head_dim, c.ffn);
  }
  if (c.num_experts > 0 && (c.experts_per_token < 1 || c.experts_per_token > c.num_experts)) {
    return InvalidArgument("{}: {} of {} experts a token", name, c.experts_per_token,
                           c.num_experts);
  }
  for (const RopeConfig& rope : c.ropes) TANDEM_RETURN_IF_ERROR(CheckRope(rope, c, name));
  return OkStatus();
}

}  // namespace tandem::model

#include "worker/model/cuda/model_check.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/ops.h"

namespace tandem::model::cuda {
namespace {

// What families have that the kernels here do not compute.
Status CheckParts(const ModelConfig& config, const std::string& file) {
  const LayerConfig& first = config.layers[0];
  const std::pair<bool, const char*> parts[] = {
      {!config.has_head, "a model without an output matrix"},
      {config.num_experts > 0, "mixture of experts"},
      {config.post_norms, "norms after attention and feed-forward"},
      {config.activation != kernels::Activation::kSilu, "a gate of GELU"},
      {config.attention_softcap > 0, "soft-capping of attention scores"},
      {config.logit_softcap > 0, "soft-capping of logits"},
      {config.o_bias, "a bias of the attention's output"},
      {config.ropes.size() > 1, "rotary embeddings that differ by layer"},
      {config.ropes[0].dims != config.head_dim, "a partly rotated head"},
      {!config.ropes[0].long_factors.empty(), "factors for long contexts"},
      {std::any_of(config.layers.begin(), config.layers.end(),
                   [](const LayerConfig& layer) { return layer.rope == kNoRope; }),
       "layers without a rotary embedding"},
      {std::any_of(config.layers.begin(), config.layers.end(),
                   [&](const LayerConfig& layer) { return layer.window != first.window; }),
       "windows that differ by layer"}};
  for (const auto& [has, what] : parts) {
    if (has) return Unsupported("{}: not supported on a GPU: {}", file, what);
  }
  return OkStatus();
}

// Q, K and V are packed into one weight.
Status CheckTypes(const ModelSource& source) {
  for (const auto& [name, tensor] : source.tensors()) {
    if (tensor.slice.type <= kernels::WeightType::kQ8_0) continue;
    return Unsupported("{}: tensor {} is of type {}, which is not supported on a GPU",
                       source.name(), tensor.source, tensor.type_name);
  }
  for (int i = 0; i < source.config().num_layers; ++i) {
    const ModelTensor& q = source.tensors().at(LayerTensorName(i, "attn_q"));
    for (const char* kind : {"attn_k", "attn_v"}) {
      const ModelTensor& other = source.tensors().at(LayerTensorName(i, kind));
      if (other.slice.type == q.slice.type) continue;
      return Unsupported(
          "{}: tensors {} ({}) and {} ({}) of different types are not supported on "
          "a GPU",
          source.name(), q.source, q.type_name, other.source, other.type_name);
    }
  }
  return OkStatus();
}

}  // namespace

Status CheckModel(const ModelSource& source) {
  const ModelConfig& config = source.config();
  const std::string& file = source.name();
  TANDEM_RETURN_IF_ERROR(CheckParts(config, file));
  TANDEM_RETURN_IF_ERROR(CheckTypes(source));
  if (config.head_dim != 64 && config.head_dim != 96 && config.head_dim != 128) {
    return Unsupported("{}: a head dimension of {} is not supported on a GPU; 64, 96 and 128 are",
                       file, config.head_dim);
  }
  if (config.hidden > kernels::cuda::kMaxNormCols) {
    return Unsupported("{}: an embedding length of {} is not supported on a GPU; {} is the most",
                       file, config.hidden, kernels::cuda::kMaxNormCols);
  }
  if (config.vocab > kernels::cuda::kMaxVocab) {
    return Unsupported("{}: a vocabulary of {} tokens is not supported on a GPU; {} is the most",
                       file, config.vocab, kernels::cuda::kMaxVocab);
  }
  if (config.heads_per_kv() > kernels::cuda::kAttentionTileRows) {
    return Unsupported("{}: {} heads share a KV head; {} is the most that is supported on a GPU",
                       file, config.heads_per_kv(), kernels::cuda::kAttentionTileRows);
  }
  return OkStatus();
}

}  // namespace tandem::model::cuda

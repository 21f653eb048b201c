// The shape of a model, whichever file it came from: what the loader and the forward pass follow.
// Filled from a GGUF file (gguf_config.h) or from a Hugging Face folder (huggingface_config.h) by
// the rules of its family (families.h); what families differ in is data here, not code there.
#pragma once

#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/ops.h"
#include "kernels/rope_table.h"

namespace tandem::model {

// A rotary embedding; a model may have one for each kind of layer.
struct RopeConfig {
  int dims = 0;  // leading dims of a head that turn
  double theta = 10000;
  kernels::RopePairs pairs = kernels::RopePairs::kHalves;
  kernels::RopeScaling scaling = {};
  std::vector<float> freq_factors = {};  // [dims / 2] divisors of the frequencies; empty: none
  // [dims / 2] instead of freq_factors, if contexts longer than short_context are served.
  std::vector<float> long_factors = {};
  int short_context = 0;
};

inline constexpr int kNoRope = -1;

struct LayerConfig {
  int window = 0;  // position p sees (p - window, p]; 0: all of [0, p]
  int rope = 0;    // index into ModelConfig::ropes, or kNoRope: positions are not encoded
};

struct ModelConfig {
  std::string architecture;  // the family's name: "llama", "qwen3", "gemma3", ...
  int num_layers = 0;
  int hidden = 0;  // multiple of 32, as head_dim and ffn are
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;      // num_heads * head_dim need not be `hidden`
  int ffn = 0;           // of an expert, if there are experts
  int vocab = 0;
  int max_context = 0;
  float rms_eps = 1e-5f;
  bool tied_embeddings = false;  // the embedding table is the output matrix
  bool has_head = true;          // false: no output matrix at all, so embeddings but no tokens

  bool qkv_bias = false;
  bool o_bias = false;
  bool qk_norm = false;     // each Q and K head is normed before rope
  bool post_norms = false;  // what attention and feed-forward give is normed before it is added
  kernels::Activation activation = kernels::Activation::kSilu;
  float embedding_scale = 1;
  float attention_scale = 0;    // of the scores
  float attention_softcap = 0;  // 0: none
  float logit_scale = 1;        // of the logits
  float logit_softcap = 0;      // 0: none; of scaled ones

  // Mixture of experts: a router chooses experts_per_token of them for every token.
  int num_experts = 0;  // 0: one feed-forward for all
  int experts_per_token = 0;
  bool normalize_experts = false;  // the chosen ones' probabilities are made to sum to 1

  std::vector<RopeConfig> ropes;    // at least one
  std::vector<LayerConfig> layers;  // [num_layers]

  int heads_per_kv() const { return num_heads / num_kv_heads; }
};

// Granite's factors, 1 being none. What attention and feed-forward give is multiplied by `residual`
// before it is added; no operation here does that. Instead the whole residual stream is held
// divided by it, which its norms do not see, up to their eps.
struct Multipliers {
  double embedding = 1, residual = 1, logits = 1;
};
// REQUIRES: rms_eps is read, and no norm but those of the residual stream uses it.
void SetMultipliers(const Multipliers& factors, ModelConfig& config);

// The rotary embedding of positions [0, max_positions) where contexts of up to `max_context` are
// served. Borrows from `rope`.
kernels::RopeSpec RopeSpecOf(const RopeConfig& rope, int max_positions, int max_context);

// What must hold for any model to be run here, whatever the file's format. Errors begin with `name`
// and say what is not supported. Sizes are positive already.
Status CheckModelConfig(const ModelConfig& config, const std::string& name);

}  // namespace tandem::model

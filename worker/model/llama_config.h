// The shape of a Llama, Qwen2 or Qwen3 model, read from a GGUF file's metadata and checked against
// its tensors, so that the loader can take what it finds for granted. Anything this program does
// not compute exactly (another architecture or rope scaling, a tensor that is not known, a tensor
// type) is refused by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/gguf/gguf_file.h"
#include "common/status.h"
#include "kernels/rope_table.h"

namespace tandem::model {

struct LlamaConfig {
  std::string architecture;  // GGUF's: "llama", "qwen2", "qwen3"
  int num_layers = 0;
  int hidden = 0;  // multiple of 32, as head_dim and ffn are
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;      // num_heads * head_dim need not be `hidden`
  int ffn = 0;
  int vocab = 0;
  int max_context = 0;
  float rms_eps = 1e-5f;
  bool tied_embeddings = false;  // the embedding table is the output matrix

  bool qkv_bias = false;   // tensors attn_q.bias, attn_k.bias, attn_v.bias
  bool qk_norm = false;    // each Q and K head is normed before rope: attn_q_norm, attn_k_norm
  int sliding_window = 0;  // position p sees (p - sliding_window, p]; 0: all of [0, p]

  float rope_theta = 10000;
  kernels::RopePairs rope_pairs = kernels::RopePairs::kAdjacent;
  kernels::RopeScaling rope_scaling;
  bool rope_freqs = false;  // tensor rope_freqs.weight [head_dim / 2]: RopeSpec::freq_factors

  int heads_per_kv() const { return num_heads / num_kv_heads; }
};

// kUnimplemented: a model this program cannot run, with what it has that is not supported.
// kInvalidArgument: a broken file, with the key or the tensor and its shape.
StatusOr<LlamaConfig> ReadLlamaConfig(const gguf::File& file);

// The rotary embedding of positions [0, max_positions). `freq_factors`: rope_freqs.weight if the
// config says so, borrowed by the result.
kernels::RopeSpec RopeSpecOf(const LlamaConfig& config, int max_positions,
                             std::span<const float> freq_factors);

// GGUF's names. `kind` as in "attn_q": blk.3.attn_q.weight, blk.3.attn_q.bias.
std::string LayerTensorName(int layer, const char* kind);
std::string LayerBiasName(int layer, const char* kind);

}  // namespace tandem::model

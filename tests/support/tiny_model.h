// A Llama, Qwen2 or Qwen3 model of random weights, small enough for sanitizer builds, as a whole
// GGUF file: what tests run that need a model but not a sensible one. It has the tokenizer of a
// byte-level BPE with a few merges (three special tokens, every byte) and SmolLM2's ChatML
// template.
//
// Deterministic: equal options give equal bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/gguf/gguf_file.h"

namespace tandem::testing {

struct TinyModelOptions {
  int num_layers = 2;
  int num_heads = 6;
  int num_kv_heads = 3;
  int head_dim = 32;
  int hidden = 96;
  int ffn = 160;
  int max_context = 512;
  bool tied_embeddings = false;
  gguf::TensorType type = gguf::TensorType::kQ4_1;            // of the layers' matrices
  gguf::TensorType embedding_type = gguf::TensorType::kQ8_0;  // of the first and the last
  // Every weight is a bf16 number, whatever its type: devices that round weights to bf16 have the
  // same ones.
  bool exact_in_bf16 = false;
  uint32_t seed = 1;
  // llama | qwen2 (QKV biases, halves) | qwen3 (head norms, halves).
  std::string architecture = "llama";
  bool qkv_bias = false;  // of a llama; a qwen2 has them anyway
  float rope_theta = 10000;
  bool rope_freqs = false;          // Llama 3.1's factors, for original_context
  std::string rope_scaling = {};    // "linear", "yarn"; empty: no such keys
  float rope_factor = 4;            // of rope_scaling and rope_freqs
  float rope_attention_factor = 1;  // the key attn_factor, with rope_scaling
  int original_context = 64;
  int sliding_window = 0;     // 0: no such key
  std::string without = {};   // a tensor to leave out
  std::string misshape = {};  // a tensor to give one row too many
};

// The models that tests of families use, by name, in F32 and exact in bf16:
//   llama3      head_dim 64, rope_freqs            qwen2       biases, tied embeddings, 3 KV heads
//   mistral     sliding window of 24               qwen2-yarn  qwen2 with YaRN
//   llama-long  linear scaling, biases             qwen3       head norms, head_dim * heads >
//   hidden
std::vector<std::string> TinyFamilies();
// Aborts if the name is not known.
TinyModelOptions TinyFamily(const std::string& name);

std::string MakeTinyModel(const TinyModelOptions& options = {});

// MakeTinyModel into a file. Aborts if it cannot be written.
void WriteTinyModel(const std::string& path, const TinyModelOptions& options = {});

// Between float32 and the types of a GGUF file. REQUIRES: gguf::IsSupported(type), whole blocks.
// `exact_in_bf16`: see TinyModelOptions.
std::vector<std::byte> Quantize(gguf::TensorType type, std::span<const float> values,
                                bool exact_in_bf16 = false);
std::vector<float> Dequantize(gguf::TensorType type, std::span<const std::byte> data);

}  // namespace tandem::testing

// A Llama model of random weights, small enough for sanitizer builds, as a whole GGUF file: what
// tests run that need a model but not a sensible one. It has the tokenizer of a byte-level BPE with
// a few merges (three special tokens, every byte) and SmolLM2's ChatML template.
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
  uint32_t seed = 1;
  std::string architecture = "llama";
  std::string without = {};   // a tensor to leave out
  std::string misshape = {};  // a tensor to give one row too many
};

std::string MakeTinyModel(const TinyModelOptions& options = {});

// MakeTinyModel into a file. Aborts if it cannot be written.
void WriteTinyModel(const std::string& path, const TinyModelOptions& options = {});

// Between float32 and the types of a GGUF file. REQUIRES: gguf::IsSupported(type), whole blocks.
std::vector<std::byte> Quantize(gguf::TensorType type, std::span<const float> values);
std::vector<float> Dequantize(gguf::TensorType type, std::span<const std::byte> data);

}  // namespace tandem::testing

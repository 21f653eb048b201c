// The shape of a Llama model, read from a GGUF file's metadata and checked against its tensors, so
// that the loader can take what it finds for granted. Anything this program does not compute
// exactly (another architecture, rope scaling, biases, a tensor type) is refused by name.
#pragma once

#include <cstdint>
#include <string>

#include "common/gguf/gguf_file.h"
#include "common/status.h"

namespace tandem::model {

struct LlamaConfig {
  int num_layers = 0;
  int hidden = 0;  // multiple of 32, as head_dim and ffn are
  int num_heads = 0;
  int num_kv_heads = 0;  // divides num_heads
  int head_dim = 0;
  int ffn = 0;
  int vocab = 0;
  int max_context = 0;
  float rope_theta = 10000;
  float rms_eps = 1e-5f;
  bool tied_embeddings = false;  // the embedding table is the output matrix

  int heads_per_kv() const { return num_heads / num_kv_heads; }
};

// kUnimplemented: a model this program cannot run, with what it has that is not supported.
// kInvalidArgument: a broken file, with the key or the tensor and its shape.
StatusOr<LlamaConfig> ReadLlamaConfig(const gguf::File& file);

// GGUF's names. `kind` as in "attn_q": blk.3.attn_q.weight.
std::string LayerTensorName(int layer, const char* kind);

}  // namespace tandem::model

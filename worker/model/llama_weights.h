// One rank's shard of a Llama model's weights, packed for its device.
#pragma once

#include <memory>
#include <vector>

#include "common/gguf/gguf_file.h"
#include "kernels/ops.h"
#include "worker/model/llama_config.h"
#include "worker/model/shard_layout.h"

namespace tandem::model {

// Shapes: H hidden, D head dim, Nq/Nkv heads and F feed-forward columns of this rank.
struct LlamaLayer {
  std::vector<float> attn_norm;              // [H]
  std::unique_ptr<kernels::Weight> qkv;      // [(Nq + 2 Nkv) * D, H]
  std::vector<float> qkv_bias;               // [(Nq + 2 Nkv) * D]; empty: none
  std::vector<float> q_norm, k_norm;         // [D]; empty: none
  std::unique_ptr<kernels::Weight> o;        // [H, Nq * D]: row-parallel, summed over the ranks
  std::vector<float> ffn_norm;               // [H]
  std::unique_ptr<kernels::Weight> gate_up;  // [2 F, H]
  std::unique_ptr<kernels::Weight> down;     // [H, F]: row-parallel, summed over the ranks
};

struct LlamaWeights {
  std::vector<float> rope_freqs;   // [D / 2]; empty: none
  kernels::MatrixSlice embedding;  // [vocab, H], all of it on every rank; borrows from the file
  std::vector<LlamaLayer> layers;
  std::vector<float> output_norm;           // [H]
  std::unique_ptr<kernels::Weight> output;  // [vocab of this rank, H]; null if that is empty
};

// Packs what `shard` names. REQUIRES: `config` was read from `file`, which outlives the result.
LlamaWeights LoadLlamaWeights(const gguf::File& file, const LlamaConfig& config,
                              const RankShard& shard, kernels::Ops& ops);

}  // namespace tandem::model

// One rank's shard of a model's weights, packed for its device.
#pragma once

#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "worker/model/model_source.h"
#include "worker/model/shard_layout.h"

namespace tandem::model {

// One feed-forward, or one expert's.
struct FeedForwardWeights {
  std::unique_ptr<kernels::Weight> gate_up;  // [2 F, H]
  std::unique_ptr<kernels::Weight> down;     // [H, F]: row-parallel, summed over the ranks
};

// Shapes: H hidden, D head dim, Nq/Nkv heads and F feed-forward columns of this rank, E experts.
struct LlamaLayer {
  std::vector<float> attn_norm;          // [H]
  std::unique_ptr<kernels::Weight> qkv;  // [(Nq + 2 Nkv) * D, H]
  std::vector<float> qkv_bias;           // [(Nq + 2 Nkv) * D]; empty: none
  std::vector<float> q_norm, k_norm;     // [D]; empty: none
  std::unique_ptr<kernels::Weight> o;    // [H, Nq * D]: row-parallel, summed over the ranks
  std::vector<float> o_bias;             // [H] on the first rank; empty: none
  std::vector<float> ffn_norm;           // [H]
  std::vector<float> attn_post_norm, ffn_post_norm;  // [H], of the sums; empty: none
  std::unique_ptr<kernels::Weight> expert_router;    // [E, H]; null: one feed-forward
  std::vector<FeedForwardWeights> ffn;               // one, or E
};

struct LlamaWeights {
  kernels::MatrixSlice embedding;  // [vocab, H], all of it on every rank; borrows from the file
  std::vector<LlamaLayer> layers;
  std::vector<float> output_norm;           // [H]
  std::unique_ptr<kernels::Weight> output;  // [vocab of this rank, H]; null if that is empty
};

// Packs what `shard`, that of rank `rank`, names. `source` must outlive the result.
LlamaWeights LoadLlamaWeights(const ModelSource& source, const RankShard& shard, int rank,
                              kernels::Ops& ops);

// Of memory that they take at least, whatever the kernels: no packed layout is smaller than what
// the file has of the shard. Reads no weight.
int64_t LeastWeightBytes(const ModelSource& source, const RankShard& shard);

}  // namespace tandem::model

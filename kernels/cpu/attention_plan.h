// Which tokens of a step attend together: what one call of the attention kernel computes.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/kernel_table.h"
#include "kernels/ops.h"

namespace tandem::kernels::cpu {

// Up to kAttentionTokens tokens of one sequence, so that a KV block is read once for all of them;
// or of several sequences whose first blocks are the same ones (a prefix that they share).
struct AttentionPart {
  int first_token, num_tokens;
  int shared;  // as in AttentionJob
};

class AttentionPlan {
 public:
  // Allocates all of it.
  explicit AttentionPlan(int max_tokens);

  // Plans a step for `threads` threads, which deal out parts and KV heads.
  void Build(TensorView out, TensorView q, const StepBatch& batch, const KvCacheSpec& spec,
             int threads);

  std::span<const AttentionToken> tokens() const { return tokens_; }
  std::span<const AttentionPart> parts() const { return parts_; }

 private:
  // A sequence with fewer tokens than fill a part.
  struct Short {
    const int32_t* blocks;
    int sequence, num_tokens, context;
  };

  void AddPart(TensorView out, TensorView q, const StepBatch& batch, int sequence, int first_row,
               int num_tokens);
  void AddShorts(TensorView out, TensorView q, const StepBatch& batch, int block_size,
                 int most_tokens);

  std::vector<AttentionToken> tokens_;
  std::vector<AttentionPart> parts_;
  std::vector<Short> shorts_;
};

}  // namespace tandem::kernels::cpu

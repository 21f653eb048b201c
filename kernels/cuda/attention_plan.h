// How the attention of one step is spread over a GPU: which blocks see which query rows and keys.
// Found on the host from the lengths alone, once a step, the same for all layers and KV heads.
// Pure: no device, no clock.
//
// Results do not depend on a plan. PagedAttention computes keys in units of 64 from position 0 and
// merges units in ascending order, whether one block folds all of them or MergePartials folds what
// several wrote.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/ops.h"

namespace tandem::kernels::cuda {

struct AttentionPlanSpec {
  int32_t max_tokens = 0;  // of a step
  int32_t max_seqs = 0;
  int32_t max_context = 0;  // tokens of a sequence
  int32_t num_heads = 0;    // Nq of this rank; Nq / Nkv at most 16
  int32_t num_kv_heads = 0;
  int32_t window = 0;           // as PagedAttention's; a plan made with 0 is right for any window
  int32_t blocks_at_once = 1;   // AttentionBlocksAtOnce()
  int32_t min_piece_units = 4;  // a sequence's keys are not cut finer
};

// Thread: one at a time. All memory is allocated by the constructor.
class AttentionPlan {
 public:
  explicit AttentionPlan(const AttentionPlanSpec& spec);

  // Plans one step: sequence s has the rows [query_start[s], query_start[s + 1]), which may be
  // none, and context_len[s] keys with them. REQUIRES: within the spec.
  void Make(std::span<const int32_t> query_start,   // [S + 1]
            std::span<const int32_t> context_len);  // [S]

  // Of the last Make: what Batch wants in device memory.
  std::span<const AttentionItem> items() const { return items_; }
  std::span<const AttentionMerge> merges() const { return merges_; }

  // Bounds over all steps of so many tokens and sequences: Batch::max_items and max_merges of a
  // captured graph, and the device memory to set aside.
  int32_t MaxItems(int32_t num_tokens, int32_t num_seqs) const;
  int32_t MaxMerges(int32_t num_tokens) const;

  // Of the scratch `partials` of PagedAttention.
  int64_t PartialBytes(int32_t head_dim) const;

 private:
  // Consecutive query tokens of one sequence that one block handles, and the units they see.
  struct Tile {
    int32_t sequence, first_row, num_tokens, first_position;
    int32_t first_unit, end_unit;
    bool narrow;  // at most 16 rows: its units may be spread over blocks
    int32_t units() const { return end_unit - first_unit; }
  };

  template <class F>
  void ForEachTile(std::span<const int32_t> query_start, std::span<const int32_t> context_len,
                   F f) const;
  // Units a piece should have so that all pieces run at once.
  int32_t PieceUnits(int64_t total_units) const;
  void AddTile(const Tile& tile, int32_t piece_units);
  void AddPieces(const Tile& tile, int32_t pieces);
  void AddMerges(const Tile& tile);
  int32_t ExtraPieces() const;

  AttentionPlanSpec spec_;
  int32_t tile_tokens_;  // whose heads of one group fill at most 16 rows
  int32_t max_partials_;
  int32_t num_partials_ = 0;
  std::vector<AttentionItem> items_;
  std::vector<AttentionMerge> merges_;
};

}  // namespace tandem::kernels::cuda

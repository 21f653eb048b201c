// Which part of every weight each rank of a group holds. Pure arithmetic, equal on all ranks.
//
// Ranks need not be equal: whole KV heads go to ranks, each with the query heads that share it
// (9 query and 3 KV heads over 2 ranks: 6 + 2 and 3 + 1). The feed-forward columns are split evenly
// whatever attention is: ranks meet behind each of the two, so a rank that is behind in one cannot
// make it up in the other. They go in units of 32 columns, a quantization block, so that the K
// ranges of the row-parallel matrices never cut one; of experts each rank has such a part of every
// one. The vocabulary is split in panels of 16 rows, the kernels' unit.
#pragma once

#include <vector>

#include "common/status.h"
#include "worker/model/model_config.h"

namespace tandem::model {

struct Range {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

struct RankShard {
  Range kv_heads;
  Range heads;  // query heads of those KV heads
  Range ffn;    // rows of gate and up, columns of down
  Range vocab;  // rows of the output matrix; may be empty for a tiny vocabulary
  bool operator==(const RankShard&) const = default;
};

inline constexpr int kFfnUnit = 32;
inline constexpr int kVocabUnit = 16;

// One shard a rank; each range's ends meet, in rank order, and together they cover everything.
// kInvalidArgument: tp is more than the KV heads, or leaves a rank without feed-forward columns.
StatusOr<std::vector<RankShard>> MakeShardLayout(const ModelConfig& config, int tp);

}  // namespace tandem::model

// Options for ranks that meet in a test's own folder, and a rank that does no more than take plans.
#pragma once

#include <string>

#include "worker/link/rank_link.h"

namespace tandem::testing {

inline constexpr PlanLimits kSmallLimits = {
    .max_rows = 4, .max_step_tokens = 16, .max_blocks_per_seq = 8, .block_size = 16};

inline link::RankLinkOptions RankOptions(const std::string& folder, int rank, int tp) {
  link::RankLinkOptions options;
  options.runtime_dir = folder + "/run";
  options.group = "g0";
  options.rank = rank;
  options.tp = tp;
  options.build = "test-1";
  options.settings = "f32/f32";
  options.comm_bytes = 4096;
  return options;
}

inline link::LoadedShard ShardWith(int num_blocks) { return {"fp", "reference", num_blocks}; }

// Joins, then takes plans until the group ends: 0 after a shutdown, 75 after an abort, 2 if the
// leader would not have it. Beats as a watchdog would.
inline int TakePlans(const link::RankLinkOptions& options) {
  auto link = link::RankLink::Open(options);
  if (!link.ok()) return link.status().code() == StatusCode::kInvalidArgument ? 2 : 1;
  const auto blocks = (*link)->Agree(ShardWith(100 + options.rank), {});
  if (!blocks.ok()) return blocks.status().code() == StatusCode::kInvalidArgument ? 2 : 75;
  link::PlanRing& ring = (*link)->ring();
  for (uint64_t last = 0;;) {
    StepPlan plan;
    switch (ring.WaitNext(options.rank, plan)) {
      case link::PlanRing::Next::kShutdown:
        return 0;
      case link::PlanRing::Next::kAborted:
        return 75;
      case link::PlanRing::Next::kPlan:
        break;
    }
    (*link)->roll_call().Beat(options.rank);
    // What the test publishes: the plan says of itself what is in it.
    if (plan.step != ++last) return 3;
    for (const TokenId token : plan.tokens) {
      if (token != static_cast<TokenId>(plan.step)) return 4;
    }
    for (const PlanRow& row : plan.rows) {
      if (row.slot != static_cast<int32_t>(plan.tokens.size())) return 5;
    }
    ring.Done(options.rank);
  }
}

}  // namespace tandem::testing

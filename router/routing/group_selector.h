// Picks the group whose first token is predicted to arrive first. Pure: `now` and the random
// generator are arguments. Every choice explains itself, and the explanation is what is logged.
//
//   predicted TTFT = what is left of the running step
//                  + (prompt tokens queued there + ours that it does not hold) * time per token
//                  + the steps these take * what a step costs besides (base and decodes)
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "common/ids.h"
#include "router/routing/latency_model.h"
#include "router/routing/ledger.h"
#include "router/routing/messages.h"

namespace tandem::routing {

using Rng = std::mt19937_64;

// One group that could take the request.
struct Candidate {
  GroupId group;
  const GroupLoad* load = nullptr;  // newest report
  Nanos reported_at = 0;            // when it arrived; 0: none yet
  GroupOutstanding outstanding;     // of this router
  const LatencyModel* model = nullptr;
  int32_t max_step_tokens = 0;
  int32_t cached_tokens = 0;  // of this prompt, by the prefix index
};

struct Choice {
  GroupId group;  // invalid: there was no candidate
  int32_t cached_tokens = 0;
  Nanos predicted_ttft = 0;         // compared with the observed one in metrics
  const char* reason = "no_group";  // only_group | warmest | fastest | tie
};

// Within this distance of the best, groups count as equal: relative, plus absolute.
inline constexpr double kTieBand = 0.05;
inline constexpr Nanos kTieFloor = kMillisecond;

Nanos PredictTtft(const Candidate& candidate, int32_t prompt_tokens, Nanos now);

// Near-ties are drawn with `rng`: a fixed order piles idle traffic up on the first group. Among
// near-ties those that hold most of the prompt are preferred.
Choice SelectGroup(std::span<const Candidate> candidates, int32_t prompt_tokens, Nanos now,
                   Rng& rng);

}  // namespace tandem::routing

// What a request's time to first token would be at one group: what is left of the step that runs,
// the prompts that will be served before it, and its own. docs/routing.md has the formulae.
//
// Pure. O(prompts waiting at the group).
#pragma once

#include <cstdint>
#include <span>

#include "common/ids.h"
#include "router/routing/latency_model.h"
#include "router/routing/ledger.h"
#include "router/routing/messages.h"

namespace tandem::routing {

struct Prediction {
  double wait = 0;         // seconds until our prompt's turn: steps in flight, prompts before it
  double own = 0;          // seconds of our prompt
  double added = 0;        // of them those that others wait longer: not the steps that run anyway
  double backlog = 0;      // seconds until all that waits there now is computed
  int32_t num_behind = 0;  // prompts that would wait for ours
  int32_t own_tokens = 0;  // to compute

  double ttft() const { return wait + own; }
};

// What is known of a group. Pointers are never null.
struct GroupState {
  const GroupInfo* info = nullptr;
  const GroupLoad* load = nullptr;         // newest report; empty before the first
  Nanos reported_at = 0;                   // when that arrived, or the group came up
  std::span<const Unreported> unreported;  // sent there and not in `load` yet, in order of sending
  const LatencyModel* model = nullptr;     // of its device class
  double speed = 1;                        // its step times are those of `model` times this
};

// What is known of a request at that group.
struct PromptState {
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;
  int32_t priority = 0;
};

// Seconds until all that waits there is computed.
double Backlog(const GroupState& group, Nanos now);

Prediction Predict(const GroupState& group, const PromptState& prompt, Nanos now);

}  // namespace tandem::routing

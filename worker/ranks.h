// The ranks of a group as its leader sees them: plans go in, in order, and their results come out
// in the same order. Behind it are processes that share a plan ring (ring_ranks.h), or nothing but
// a clock (sim/sim_ranks.h). Thread: the leader's engine thread.
#pragma once

#include <vector>

#include "common/ids.h"
#include "worker/step_plan.h"

namespace tandem::worker {

// What one step gave.
struct StepResult {
  std::vector<RowResult> rows;    // max_rows; the plan says how many mean something
  std::vector<float> embeddings;  // of the rows with kRowEmbed, one after the other
  Nanos start = 0, end = 0;       // of its compute
};

class Ranks {
 public:
  virtual ~Ranks() = default;

  // The plan's spans need not outlive the call. `limit`: how long the step may take. At most two
  // are published and not popped. False: the group has ended.
  [[nodiscard]] virtual bool Publish(const StepPlan& plan, Nanos limit) = 0;

  virtual bool aborted() const = 0;

  // The oldest result that is not popped, or null: it is not there yet.
  virtual const StepResult* Oldest() = 0;
  virtual void Pop() = 0;
};

}  // namespace tandem::worker

// Ranks that are processes: plans go through the ring that they share, results come from rank 0's
// model thread.
#pragma once

#include "worker/link/plan_ring.h"
#include "worker/ranks.h"
#include "worker/step_results.h"

namespace tandem::worker {

class RingRanks final : public Ranks {
 public:
  // Borrows both.
  RingRanks(link::PlanRing& ring, StepResults& results) : ring_(ring), results_(results) {}

  bool Publish(const StepPlan& plan, Nanos limit) override { return ring_.Publish(plan, limit); }
  bool aborted() const override { return ring_.aborted(); }
  const StepResult* Oldest() override { return results_.Oldest(); }
  void Pop() override { results_.Pop(); }

 private:
  link::PlanRing& ring_;
  StepResults& results_;
};

}  // namespace tandem::worker

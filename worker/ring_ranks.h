// Ranks that are processes: plans go through the link to them, results come from rank 0's model
// thread.
#pragma once

#include "worker/link/rank_link.h"
#include "worker/ranks.h"
#include "worker/step_results.h"

namespace tandem::worker {

class RingRanks final : public Ranks {
 public:
  // Borrows both.
  RingRanks(link::RankLink& link, StepResults& results) : link_(link), results_(results) {}

  bool Publish(const StepPlan& plan, Nanos limit) override { return link_.Publish(plan, limit); }
  bool aborted() const override { return link_.ring().aborted(); }
  const StepResult* Oldest() override { return results_.Oldest(); }
  void Pop() override { results_.Pop(); }

 private:
  link::RankLink& link_;
  StepResults& results_;
};

}  // namespace tandem::worker

#include "worker/rank_loop.h"

#include <vector>

#include "common/clock.h"

namespace tandem::worker {

Status RunRank(model::ModelRunner& model, link::PlanRing& ring, int rank, StepResults* results) {
  std::vector<RowResult> own(results == nullptr ? static_cast<size_t>(ring.limits().max_rows) : 0);
  for (uint64_t last_step = 0;;) {
    StepPlan plan;
    switch (ring.WaitNext(rank, plan)) {
      case link::PlanRing::Next::kShutdown:
        return OkStatus();
      case link::PlanRing::Next::kAborted:
        return Unavailable("the group was aborted");
      case link::PlanRing::Next::kPlan:
        break;
    }
    if (last_step != 0 && plan.step != last_step + 1) {
      return Internal("plan {} came after plan {}", plan.step, last_step);
    }
    last_step = plan.step;
    const std::span<RowResult> rows = results == nullptr ? std::span(own) : results->Next();
    const Nanos start = MonotonicNow();
    TANDEM_RETURN_IF_ERROR(model.Run(plan, rows));
    if (results != nullptr) results->Put(start, MonotonicNow());
    ring.Done(rank);
  }
}

}  // namespace tandem::worker

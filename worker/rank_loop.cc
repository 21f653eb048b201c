#include "worker/rank_loop.h"

#include <sys/prctl.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "common/clock.h"

namespace tandem::worker {
namespace {

// Long enough to leave the core to others, short beside a step.
constexpr std::chrono::microseconds kPause(20);

// One run of a rank. A model that may have two steps in flight is given the second as soon as it is
// planned, and results are taken when they are there.
class Loop {
 public:
  Loop(model::ModelRunner& model, link::PlanRing& ring, int rank, StepResults* results)
      : model_(model),
        ring_(ring),
        rank_(rank),
        results_(results),
        own_(results == nullptr ? static_cast<size_t>(ring.limits().max_rows) : 0) {}

  Status Run() {
    for (;;) {
      if (TakesNext()) {
        StepPlan plan;
        switch (ring_.WaitNext(rank_, plan, in_flight_)) {
          case link::PlanRing::Next::kShutdown:
            return OkStatus();
          case link::PlanRing::Next::kAborted:
            return Unavailable("the group was aborted");
          case link::PlanRing::Next::kPlan:
            break;
        }
        TANDEM_RETURN_IF_ERROR(Begin(plan));
      } else {
        TANDEM_RETURN_IF_ERROR(Finish());
      }
    }
  }

 private:
  // Whether a plan comes before the oldest step's results. With nothing in flight it does.
  bool TakesNext() const {
    if (in_flight_ == 0) return true;
    if (in_flight_ == model_.max_in_flight()) return false;
    for (;;) {
      if (ring_.HasNext(rank_, in_flight_)) return true;
      if (model_.Finished()) return false;
      std::this_thread::sleep_for(kPause);
    }
  }

  Status Begin(const StepPlan& plan) {
    if (last_step_ != 0 && plan.step != last_step_ + 1) {
      return Internal("plan {} came after plan {}", plan.step, last_step_);
    }
    last_step_ = plan.step;
    begun_[in_flight_++] = MonotonicNow();
    return model_.Begin(plan);
  }

  Status Finish() {
    TANDEM_RETURN_IF_ERROR(model_.Finish(results_ == nullptr ? std::span(own_) : results_->Next()));
    const Nanos end = MonotonicNow();
    // What was begun early has waited for the step before.
    if (results_ != nullptr) {
      results_->Put(std::max(begun_[0], last_end_), end, model_.embeddings());
    }
    last_end_ = end;
    begun_[0] = begun_[1];
    --in_flight_;
    ring_.Done(rank_);
    return OkStatus();
  }

  model::ModelRunner& model_;
  link::PlanRing& ring_;
  const int rank_;
  StepResults* const results_;
  std::vector<RowResult> own_;
  uint64_t last_step_ = 0;
  int in_flight_ = 0;
  Nanos begun_[2] = {};
  Nanos last_end_ = 0;
};

}  // namespace

Status RunRank(model::ModelRunner& model, link::PlanRing& ring, int rank, StepResults* results) {
  // Linux adds up to 50 us to a thread's sleeps: more than kPause, here and in the model.
  if (model.max_in_flight() > 1) ::prctl(PR_SET_TIMERSLACK, 1);
  return Loop(model, ring, rank, results).Run();
}

}  // namespace tandem::worker

// The engine thread of a group's leader: what arrives from the routers goes into the engine, its
// plans to the ranks, their results back, and what came of it to the routers.
//
//   drain inbox ─▶ commit what the ranks finished ─▶ send ─▶ plan, at most two steps in flight
//
// A group without work runs a no-op step across its ranks several times a second: that, and not a
// thread that happens to be alive, is what the routers take for health.
#pragma once

#include <atomic>
#include <vector>

#include "common/ids.h"
#include "worker/engine/engine.h"
#include "worker/link/bell.h"
#include "worker/link/plan_ring.h"
#include "worker/link/router_link.h"
#include "worker/step_limit.h"
#include "worker/step_results.h"

namespace tandem::worker {

struct LeaderOptions {
  engine::EngineOptions engine;
  Nanos min_watchdog = 5 * kSecond;
  Nanos idle_interval = 200 * kMillisecond;  // between no-op steps
  Nanos drain_timeout = 60 * kSecond;        // for sequences in progress
};

class Leader {
 public:
  // Borrows all three. `bell` is rung for new arrivals and results, and by StartDraining.
  Leader(const LeaderOptions& options, link::PlanRing& ring, link::Bell& bell,
         StepResults& results);

  // Engine thread, before Run: one no-op step across the ranks, which may still be allocating.
  // False: the ring is aborted.
  [[nodiscard]] bool RunFirstStep();

  enum class End { kDrained, kAborted };

  // The engine thread: until drained, or the ring is aborted. `routers` is borrowed.
  End Run(link::RouterLink& routers);

  // Any thread: take nothing new, finish, return from Run.
  void StartDraining();

 private:
  void TakeArrivals(Nanos now);
  void CommitFinished();
  void CommitOldest(const StepResults::Step& step, Nanos now);
  void Send(bool after_step, Nanos now);
  bool FillPipeline(Nanos now);  // false: aborted
  bool Publish(const StepPlan& plan, Nanos limit);
  bool Drained(Nanos now);
  Nanos SleepTime(Nanos now) const;

  const LeaderOptions options_;
  link::PlanRing& ring_;
  link::Bell& bell_;
  StepResults& results_;
  link::RouterLink* routers_ = nullptr;
  engine::Engine engine_;
  StepLimit limit_;

  struct InFlight {
    int num_tokens = 0;
    Nanos limit = 0;
  };
  InFlight in_flight_[2];  // oldest first
  int num_in_flight_ = 0;
  Nanos last_published_ = 0;

  std::vector<engine::Inbound> arrivals_;
  std::vector<engine::Output> outputs_;
  std::vector<engine::KvEvent> kv_events_;

  std::atomic<bool> draining_{false};
  Nanos draining_since_ = 0;
};

}  // namespace tandem::worker

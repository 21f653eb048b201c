// The engine thread of a group's leader: what arrives from the routers goes into the engine, its
// plans to the ranks, their results back, and what came of it to the routers.
//
//   drain inbox ─▶ commit what the ranks finished ─▶ send ─▶ plan, at most two steps in flight
//
// A group without work runs a no-op step across its ranks several times a second: that, and not a
// thread that happens to be alive, is what the routers take for health.
#pragma once

#include <atomic>
#include <optional>
#include <vector>

#include "common/ids.h"
#include "worker/engine/engine.h"
#include "worker/grammars.h"
#include "worker/link/bell.h"
#include "worker/link/router_link.h"
#include "worker/ranks.h"
#include "worker/step_limit.h"

namespace tandem::worker {

struct LeaderOptions {
  engine::EngineOptions engine;
  Nanos min_watchdog = 5 * kSecond;
  Nanos idle_interval = 500 * kMillisecond;  // between no-op steps; routers pay for each
  Nanos drain_timeout = 60 * kSecond;        // for sequences in progress
  Grammars* grammars = nullptr;              // borrowed; null: no structured output
};

class Leader {
 public:
  // Borrows both. `bell` is rung for new arrivals and results, and by StartDraining.
  Leader(const LeaderOptions& options, Ranks& ranks, link::Bell& bell);

  // Engine thread, before Run: one no-op step across the ranks, which may still be allocating.
  // False: the group is aborted.
  [[nodiscard]] bool RunFirstStep();

  enum class End { kDrained, kAborted };

  // The engine thread: until drained or aborted. `routers` is borrowed.
  End Run(link::RouterLink& routers);

  // One turn of Run, for a thread that serves several groups: does what there is to do and does not
  // wait. Empty: call again when something rings, and after SleepTime at the latest.
  std::optional<End> Turn(link::RouterLink& routers);
  Nanos SleepTime(Nanos now) const;

  // Any thread: take nothing new, finish, return from Run.
  void StartDraining();

 private:
  void TakeArrivals(Nanos now);
  void Take(engine::Inbound&& arrival, Nanos now);
  void TakeCompiled(Nanos now);
  void Admit(engine::Generate&& request, Nanos arrived);
  void Forget(const engine::Inbound& arrival);
  void CommitFinished();
  void CommitOldest(const StepResult& step, Nanos now);
  void Send(bool after_step, Nanos now);
  bool FillPipeline(Nanos now);  // false: aborted
  bool Publish(const StepPlan& plan, Nanos limit);
  bool Drained(Nanos now);
  size_t num_sequences() const {
    return static_cast<size_t>(engine_.num_sequences()) + compiling_.size();
  }

  const LeaderOptions options_;
  Ranks& ranks_;
  link::Bell& bell_;
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

  // Requests whose grammar is being compiled; in order of arrival.
  struct Compiling {
    engine::Generate request;
    Nanos arrived = 0;
  };
  std::vector<Compiling> compiling_;

  std::vector<engine::Inbound> arrivals_;
  link::StepOut out_;  // what is sent next; its memory is used again

  std::atomic<bool> draining_{false};
  Nanos draining_since_ = 0;
};

}  // namespace tandem::worker

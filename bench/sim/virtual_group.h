// A group of workers in virtual time: the engine that serves, driven as worker/leader drives it,
// and in place of ranks the time that the device's profile says a step takes.
//
//   Deliver ─▶ inbox ─▶ engine ─▶ plan n+1 while step n "runs" ─▶ FinishStep at step_end()
//
// Two plans are in flight at most, as on the real thing: what arrives while one runs and the next
// is planned takes part in the one after. An idle group makes no steps here: the no-op steps of a
// real one say only that it lives.
//
// Thread: any, one at a time. Time never goes back.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "common/device_profile.h"
#include "common/ids.h"
#include "worker/engine/engine.h"
#include "worker/sim/plan_work.h"

namespace tandem::simulator {

inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

struct GroupSpec {
  std::string name;
  std::string device_class;
  engine::EngineOptions engine;
  DeviceProfile profile;
  double slowdown = 1;  // its steps take this times what the profile says
};

// What a group tells its routers at once: after a step, or because something ended without one.
struct GroupOut {
  std::vector<engine::Output> outputs;
  std::vector<engine::KvEvent> kv_events;
  engine::Load load;
  engine::StepTiming timing;  // step 0: not after a step
};

class VirtualGroup {
 public:
  explicit VirtualGroup(const GroupSpec& spec);

  // An arrival. True: `out` was replaced by something to tell the routers.
  [[nodiscard]] bool Deliver(engine::Inbound&& arrival, Nanos now, GroupOut& out);

  // When the running step ends; kNever: none runs.
  Nanos step_end() const { return num_in_flight_ == 0 ? kNever : in_flight_[0].end; }

  // Commits the step, replaces `out`, plans on. REQUIRES: now == step_end().
  void FinishStep(Nanos now, GroupOut& out);

  Nanos busy() const { return busy_; }  // time spent in finished steps
  const engine::Engine& engine() const { return engine_; }

 private:
  struct Step {
    Nanos start = 0, end = 0, duration = 0;
    size_t num_rows = 0;
  };

  void FillPipeline(Nanos now);
  void Sample(size_t num_rows);
  void Report(bool after_step, Nanos now, GroupOut& out);

  const DeviceProfile profile_;
  const double slowdown_;
  const uint64_t vocab_size_;
  engine::Engine engine_;
  Step in_flight_[2];  // oldest first
  int num_in_flight_ = 0;
  Nanos busy_ = 0;
  sim::PlanWork work_;
  std::vector<RowResult> results_;  // of a step, as a rank samples them
  uint64_t sampled_;                // state of what stands in for sampling
};

}  // namespace tandem::simulator

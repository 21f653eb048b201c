// Ranks that are only a clock: a step ends as long after the one before, or after it was published,
// as the device profile says. Nothing runs and nothing waits; whoever owns the leader comes back at
// `due`.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "common/device_profile.h"
#include "worker/ranks.h"
#include "worker/sim/plan_work.h"
#include "worker/sim/sim_sampler.h"

namespace tandem::sim {

class SimRanks final : public worker::Ranks {
 public:
  // Borrows `sampler`, which any number of groups may share. `clock` never goes back.
  SimRanks(const DeviceProfile& profile, const PlanLimits& limits, const SimSampler& sampler,
           std::function<Nanos()> clock);

  bool Publish(const StepPlan& plan, Nanos limit) override;
  bool aborted() const override { return false; }
  const worker::StepResult* Oldest() override;
  void Pop() override;

  // When the oldest step in flight ends. REQUIRES: busy().
  bool busy() const { return num_in_flight_ > 0; }
  Nanos due() const { return steps_[oldest_].end; }

 private:
  static constexpr int kSlots = 2;  // as many as a leader has in flight

  const DeviceProfile profile_;
  const SimSampler& sampler_;
  const std::function<Nanos()> clock_;
  PlanWork work_;
  const size_t mask_words_;
  std::vector<std::vector<TokenBias>> biases_;  // by slot
  std::array<worker::StepResult, kSlots> steps_;
  size_t oldest_ = 0;
  int num_in_flight_ = 0;
  Nanos busy_until_ = 0;  // the end of the newest step
};

}  // namespace tandem::sim

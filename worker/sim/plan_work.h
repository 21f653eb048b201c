// What step plans have to compute, for StepTime (common/device_profile.h): follows the slots'
// lengths as ranks do. Pure. Memory: all of it in the constructor.
#pragma once

#include <cstdint>
#include <vector>

#include "common/device_profile.h"
#include "worker/step_plan.h"

namespace tandem::sim {

class PlanWork {
 public:
  explicit PlanWork(int num_slots) : lengths_(static_cast<size_t>(num_slots)) {}

  // Of the plan after the last one. A plan that contradicts what is held is a bug of the leader:
  // CHECK.
  StepWork Apply(const StepPlan& plan);

  // Tokens whose KV exists once the last applied plan has run.
  int length(int slot) const { return lengths_[static_cast<size_t>(slot)]; }

 private:
  std::vector<int32_t> lengths_;  // by slot
};

}  // namespace tandem::sim

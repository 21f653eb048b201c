// One LatencyModel for each device class, shared by its groups, and one factor of speed for each
// group: whole fits per group are noise that herds traffic.
//
// Thread: the routing thread. Pure: no clock.
#pragma once

#include "common/latency_model.h"

namespace tandem::routing {

using tandem::AttentionWork;
using tandem::LatencyModel;
using tandem::StepFeatures;

// How much longer the steps of one group take than its class's model says.
class GroupSpeed {
 public:
  void Observe(double predicted_seconds, double observed_seconds);
  double factor() const;  // shrunk to 1 while little was seen

 private:
  double predicted_ = 0, observed_ = 0;  // sums, forgotten alike
  double steps_ = 0;
};

}  // namespace tandem::routing

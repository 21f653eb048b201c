// How long a step may take before the group counts as lost: the larger of a floor and ten times
// what steps like it have taken.
// Thread: engine.
#pragma once

#include <algorithm>

#include "common/ids.h"

namespace tandem::worker {

class StepLimit {
 public:
  explicit StepLimit(Nanos floor) : floor_(floor) {}

  Nanos For(int num_tokens) const {
    const double predicted = std::max(step_, per_token_ * num_tokens);
    return std::max(floor_, static_cast<Nanos>(10 * predicted));
  }

  // Of a step that computed `num_tokens` > 0.
  void Observe(int num_tokens, Nanos duration) {
    constexpr double kWeight = 0.1;  // of the newest: a slower machine is believed in ten steps
    step_ += kWeight * (static_cast<double>(duration) - step_);
    per_token_ += kWeight * (static_cast<double>(duration) / num_tokens - per_token_);
  }

 private:
  Nanos floor_;
  double step_ = 0;
  double per_token_ = 0;
};

}  // namespace tandem::worker

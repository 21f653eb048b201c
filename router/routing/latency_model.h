// How long a step of a group takes, fitted to what its steps took: recursive least squares over
//
//   step time = base + prefill_tokens * a + decodes * b + context_tokens * c
//
// with forgetting, under the constraint that no coefficient is negative. One model for each device
// class, shared by its groups: fits per group are noise that herds traffic.
//
// Thread: the routing thread. Pure: no clock.
#pragma once

#include <array>
#include <cstdint>

#include "common/ids.h"

namespace tandem::routing {

struct StepFeatures {
  double prefill_tokens = 0;
  double decodes = 0;
  double context_tokens = 0;  // KV tokens that the decodes read
};

class LatencyModel {
 public:
  LatencyModel();

  // Ignored: steps of no work (they measure the idle pace) and durations that are not positive.
  void Observe(const StepFeatures& features, Nanos duration);

  Nanos Predict(const StepFeatures& features) const;
  Nanos base() const;               // of a step
  Nanos per_prefill_token() const;  // beyond the base
  int64_t num_observed() const { return num_observed_; }

 private:
  static constexpr int kSize = 4;
  using Vector = std::array<double, kSize>;
  void Project();

  Vector theta_;                 // seconds per scaled feature
  std::array<Vector, kSize> p_;  // inverse covariance, up to scale
  int64_t num_observed_ = 0;
};

}  // namespace tandem::routing

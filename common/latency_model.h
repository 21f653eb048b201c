// How long a step of a group takes, fitted to what its steps took: recursive least squares over
//
//   step time = base + prefill_tokens * a + attention * b + decodes * c + context_tokens * d
//
// with forgetting, under the constraint that no coefficient is negative. Routers fit it to what
// groups report (router/routing), a group to its own steps (worker/engine).
//
// Before the first step is reported only the ratios of the coefficients are a guess, those of any
// transformer; the first one sets the scale. Comparisons of groups are free of scale.
//
// Thread: the caller's. Pure: no clock.
#pragma once

#include <array>
#include <cstdint>

#include "common/ids.h"

namespace tandem {

// (query, key) pairs that attention computes for `tokens` new tokens after `start`.
inline double AttentionWork(double start, double tokens) {
  return start * tokens + tokens * tokens / 2;
}

// What a step, or several, had in them.
struct StepFeatures {
  double prefill_tokens = 0;
  double attention = 0;  // AttentionWork of the prefill
  double decodes = 0;
  double context_tokens = 0;  // KV tokens that the decodes read
  double steps = 1;
};

class LatencyModel {
 public:
  LatencyModel();
  // One that takes what another class takes until it has seen a step of its own.
  static LatencyModel Like(const LatencyModel& other);

  // Ignored: steps of no work (they measure the idle pace) and durations that are not positive.
  void Observe(const StepFeatures& features, Nanos duration);

  double Seconds(const StepFeatures& features) const;
  Nanos Predict(const StepFeatures& features) const;

  // Seconds for one of each.
  struct Coefficients {
    double base = 0, prefill_token = 0, attention = 0, decode = 0, context_token = 0;
  };
  const Coefficients& coefficients() const { return coefficients_; }
  Nanos base() const;               // of a step
  Nanos per_prefill_token() const;  // beyond the base
  int64_t num_observed() const { return num_observed_; }
  bool calibrated() const { return num_observed_ > 0; }  // false: the scale is a guess

 private:
  static constexpr int kSize = 5;
  using Vector = std::array<double, kSize>;
  void Update(const Vector& x, double observed);
  void Project();
  void Publish();

  double unit_ = 1;              // seconds: `theta_` counts in these
  Vector theta_;                 // per scaled feature
  std::array<Vector, kSize> p_;  // inverse covariance, up to scale
  int64_t num_observed_ = 0;
  Coefficients coefficients_;
};

}  // namespace tandem

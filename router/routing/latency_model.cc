#include "router/routing/latency_model.h"

#include <algorithm>

namespace tandem::routing {
namespace {

constexpr double kSpeedForgetting = 0.999;
constexpr double kSpeedPriorSteps = 20;  // weight of "as fast as the others"

}  // namespace

void GroupSpeed::Observe(double predicted_seconds, double observed_seconds) {
  if (predicted_seconds <= 0 || observed_seconds <= 0) return;
  predicted_ = predicted_ * kSpeedForgetting + predicted_seconds;
  observed_ = observed_ * kSpeedForgetting + observed_seconds;
  steps_ = steps_ * kSpeedForgetting + 1;
}

double GroupSpeed::factor() const {
  if (steps_ == 0) return 1;
  const double prior = kSpeedPriorSteps * predicted_ / steps_;
  return std::clamp((observed_ + prior) / (predicted_ + prior), 0.1, 10.0);
}

}  // namespace tandem::routing

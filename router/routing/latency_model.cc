#include "router/routing/latency_model.h"

#include <algorithm>

namespace tandem::routing {
namespace {

constexpr double kForgetting = 0.9995;
constexpr double kInitialCovariance = 1e3;
constexpr double kMaxCovariance = 1e6;  // forgetting inflates directions that are not excited
// Features are scaled so that all coefficients are of one order of magnitude.
constexpr std::array<double, 4> kScale = {1, 1.0 / 100, 1.0 / 10, 1.0 / 10000};
// Before the first report: a small CPU model. Wrong by a factor does no harm, the comparison of
// groups is free of scale.
constexpr std::array<double, 4> kPrior = {0.005, 0.1, 0.01, 0.001};

std::array<double, 4> Scaled(const StepFeatures& f) {
  return {kScale[0], f.prefill_tokens * kScale[1], f.decodes * kScale[2],
          f.context_tokens * kScale[3]};
}

}  // namespace

LatencyModel::LatencyModel() : theta_(kPrior) {
  for (int i = 0; i < kSize; ++i) {
    p_[i].fill(0);
    p_[i][i] = kInitialCovariance;
  }
}

void LatencyModel::Observe(const StepFeatures& features, Nanos duration) {
  if (duration <= 0 || (features.prefill_tokens <= 0 && features.decodes <= 0)) return;
  const Vector x = Scaled(features);
  Vector px{};
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) px[i] += p_[i][j] * x[j];
  }
  double denominator = kForgetting, predicted = 0;
  for (int i = 0; i < kSize; ++i) {
    denominator += x[i] * px[i];
    predicted += theta_[i] * x[i];
  }
  const double error = static_cast<double>(duration) / kSecond - predicted;
  for (int i = 0; i < kSize; ++i) theta_[i] += px[i] / denominator * error;
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j < kSize; ++j) {
      p_[i][j] = (p_[i][j] - px[i] * px[j] / denominator) / kForgetting;
    }
  }
  Project();
  for (int i = 0; i < kSize; ++i) {  // a cap that keeps the matrix symmetric and positive
    if (p_[i][i] <= kMaxCovariance) continue;
    for (int j = 0; j < kSize; ++j) {
      if (j != i) p_[i][j] = p_[j][i] = 0;
    }
    p_[i][i] = kInitialCovariance;
  }
  ++num_observed_;
}

// The nearest coefficients, in the metric of what was seen, of which none is negative. Cutting a
// negative one off at zero would leave the others too large by what it made up for.
void LatencyModel::Project() {
  for (int round = 0; round < kSize; ++round) {
    const auto lowest = std::min_element(theta_.begin(), theta_.end());
    if (*lowest >= 0) return;
    const auto i = static_cast<size_t>(lowest - theta_.begin());
    const double scale = *lowest / p_[i][i];
    for (size_t j = 0; j < theta_.size(); ++j) theta_[j] -= p_[j][i] * scale;
    theta_[i] = 0;
  }
  for (double& coefficient : theta_) coefficient = std::max(0.0, coefficient);
}

Nanos LatencyModel::Predict(const StepFeatures& features) const {
  const Vector x = Scaled(features);
  double seconds = 0;
  for (int i = 0; i < kSize; ++i) seconds += theta_[i] * x[i];
  return static_cast<Nanos>(seconds * kSecond);
}

Nanos LatencyModel::base() const { return static_cast<Nanos>(theta_[0] * kSecond); }

Nanos LatencyModel::per_prefill_token() const {
  return static_cast<Nanos>(theta_[1] * kScale[1] * kSecond);
}

}  // namespace tandem::routing

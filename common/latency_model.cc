#include "common/latency_model.h"

#include <algorithm>

namespace tandem {
namespace {

constexpr double kForgetting = 0.9995;
constexpr double kInitialCovariance = 1e3;
constexpr double kMaxCovariance = 1e6;  // forgetting inflates directions that are not excited

// Each feature in units of what is expected to cost as much as the base of a step: the guess that
// holds until something was seen, and what brings all coefficients to one order of magnitude. These
// are ratios of a transformer, within a factor of ten on CPUs and GPUs alike: attention costs as
// much as the rest of a token at some 16,000 keys.
constexpr std::array<double, 5> kScale = {1, 1.0 / 50, 1.0 / 50 / 16384, 1.0 / 50, 1.0 / 100'000};

std::array<double, 5> Scaled(const StepFeatures& f) {
  return {f.steps * kScale[0], f.prefill_tokens * kScale[1], f.attention * kScale[2],
          f.decodes * kScale[3], f.context_tokens * kScale[4]};
}

}  // namespace

LatencyModel::LatencyModel() {
  theta_.fill(1);
  for (size_t i = 0; i < kSize; ++i) {
    p_[i].fill(0);
    p_[i][i] = kInitialCovariance;
  }
  // Any scale would do. This one keeps whole nanoseconds exact enough to compare.
  unit_ = 0.01;
  Publish();
}

LatencyModel LatencyModel::Like(const LatencyModel& other) {
  LatencyModel model;
  model.unit_ = other.unit_;
  model.theta_ = other.theta_;
  model.Publish();
  return model;
}

void LatencyModel::Observe(const StepFeatures& features, Nanos duration) {
  if (duration <= 0 || (features.prefill_tokens <= 0 && features.decodes <= 0)) return;
  const Vector x = Scaled(features);
  const double seconds = static_cast<double>(duration) / kSecond;
  if (num_observed_ == 0) {
    const double expected = Seconds(features);
    if (expected > 0) unit_ *= seconds / expected;
  }
  Update(x, seconds / unit_);
  Project();
  Publish();
  ++num_observed_;
}

void LatencyModel::Update(const Vector& x, double observed) {
  Vector px{};
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j < kSize; ++j) px[i] += p_[i][j] * x[j];
  }
  double denominator = kForgetting, predicted = 0;
  for (size_t i = 0; i < kSize; ++i) {
    denominator += x[i] * px[i];
    predicted += theta_[i] * x[i];
  }
  for (size_t i = 0; i < kSize; ++i) theta_[i] += px[i] / denominator * (observed - predicted);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t j = 0; j < kSize; ++j) {
      p_[i][j] = (p_[i][j] - px[i] * px[j] / denominator) / kForgetting;
    }
  }
  for (size_t i = 0; i < kSize; ++i) {  // a cap that keeps the matrix symmetric and positive
    if (p_[i][i] <= kMaxCovariance) continue;
    for (size_t j = 0; j < kSize; ++j) {
      if (j != i) p_[i][j] = p_[j][i] = 0;
    }
    p_[i][i] = kInitialCovariance;
  }
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

void LatencyModel::Publish() {
  coefficients_ = {.base = theta_[0] * kScale[0] * unit_,
                   .prefill_token = theta_[1] * kScale[1] * unit_,
                   .attention = theta_[2] * kScale[2] * unit_,
                   .decode = theta_[3] * kScale[3] * unit_,
                   .context_token = theta_[4] * kScale[4] * unit_};
}

double LatencyModel::Seconds(const StepFeatures& f) const {
  const Coefficients& c = coefficients_;
  return f.steps * c.base + f.prefill_tokens * c.prefill_token + f.attention * c.attention +
         f.decodes * c.decode + f.context_tokens * c.context_token;
}

Nanos LatencyModel::Predict(const StepFeatures& features) const {
  return static_cast<Nanos>(Seconds(features) * kSecond);
}

Nanos LatencyModel::base() const { return static_cast<Nanos>(coefficients_.base * kSecond); }

Nanos LatencyModel::per_prefill_token() const {
  return static_cast<Nanos>(coefficients_.prefill_token * kSecond);
}

}  // namespace tandem

#include "common/observe/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace tandem::observe {

void Counter::Add(double n) {
  if (counter_ != nullptr) counter_->Increment(n);
}
double Counter::value() const { return counter_ == nullptr ? 0 : counter_->Value(); }

void Gauge::Set(double value) {
  if (gauge_ != nullptr) gauge_->Set(value);
}
void Gauge::Add(double n) {
  if (gauge_ != nullptr) gauge_->Increment(n);
}
double Gauge::value() const { return gauge_ == nullptr ? 0 : gauge_->Value(); }

void Histogram::Observe(double value) {
  if (histogram_ != nullptr) histogram_->Observe(value);
}

std::span<const double> LatencyBuckets() {
  static constexpr double kBounds[] = {1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2,
                                       0.1,  0.2,  0.5,  1,    2,    5,    10,   20,   60};
  return kBounds;
}

std::span<const double> RatioBuckets() {
  static constexpr double kBounds[] = {0.1,  0.25, 0.5,  0.7, 0.8, 0.9, 0.95,
                                       1.05, 1.1,  1.25, 1.5, 2,   4,   10};
  return kBounds;
}

struct Metrics::Impl {
  prometheus::Registry registry;
};

namespace {
prometheus::Labels ToMap(const Labels& labels) { return {labels.begin(), labels.end()}; }
}  // namespace

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter Metrics::AddCounter(const std::string& name, const std::string& help,
                            const Labels& labels) {
  auto& family = prometheus::BuildCounter().Name(name).Help(help).Register(impl_->registry);
  return Counter(&family.Add(ToMap(labels)));
}

Gauge Metrics::AddGauge(const std::string& name, const std::string& help, const Labels& labels) {
  auto& family = prometheus::BuildGauge().Name(name).Help(help).Register(impl_->registry);
  return Gauge(&family.Add(ToMap(labels)));
}

Histogram Metrics::AddHistogram(const std::string& name, const std::string& help,
                                std::span<const double> upper_bounds, const Labels& labels) {
  auto& family = prometheus::BuildHistogram().Name(name).Help(help).Register(impl_->registry);
  return Histogram(&family.Add(ToMap(labels), prometheus::Histogram::BucketBoundaries(
                                                  upper_bounds.begin(), upper_bounds.end())));
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace tandem::observe

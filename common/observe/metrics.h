// Counters, gauges and histograms of one process, and their text for GET /metrics (Prometheus
// exposition format). prometheus-cpp stays behind this file.
//
//   Metrics metrics;
//   Histogram ttft = metrics.AddHistogram("tandem_router_ttft_seconds", "...", kLatencyBuckets);
//   ttft.Observe(0.012);
//
// Names: tandem_<process>_<noun>_<unit>, counters end in _total. A room's probe.h holds its metrics
// and is the only one to know their names.
// Thread: any. Memory: handles borrow from Metrics and are copied freely; adding the same name with
// other labels gives another series of the same family.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace tandem::observe {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  Counter() = default;  // counts nowhere
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  void Add(double n = 1);
  double value() const;

 private:
  prometheus::Counter* counter_ = nullptr;
};

class Gauge {
 public:
  Gauge() = default;
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value);
  void Add(double n);
  double value() const;

 private:
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram {
 public:
  Histogram() = default;
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value);

 private:
  prometheus::Histogram* histogram_ = nullptr;
};

// Upper bounds in seconds, 0.1 ms to 60 s, three a decade.
std::span<const double> LatencyBuckets();
// Around 1, for predicted / observed.
std::span<const double> RatioBuckets();

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  Counter AddCounter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge AddGauge(const std::string& name, const std::string& help, const Labels& labels = {});
  // REQUIRES: `upper_bounds` ascending, and the same for all series of a name.
  Histogram AddHistogram(const std::string& name, const std::string& help,
                         std::span<const double> upper_bounds, const Labels& labels = {});

  // Content type "text/plain; version=0.0.4".
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::observe

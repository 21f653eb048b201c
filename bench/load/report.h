// The result of a run as text for people, as JSON with the field names of `vllm bench serve`, and
// as one HTML page with charts that needs nothing beside it.
#pragma once

#include <string>

#include "bench/load/load_run.h"
#include "bench/load/metrics.h"
#include "bench/load/options.h"

namespace tandem::load {

struct Report {
  const Options& options;
  const RunResult& result;
  const Metrics& metrics;
  int64_t num_connects = 0;
  int64_t num_sent_again = 0;

  // Share of one core that this program used: near 1 it may be what was measured.
  double cpu_share() const {
    return result.duration > 0 ? result.cpu_s * 1e9 / static_cast<double>(result.duration) : 0;
  }
  std::string mode() const;      // "closed loop, 8 at a time"
  std::string workload() const;  // "random, 128 + 64 tokens"
};

std::string TextReport(const Report& report);
std::string JsonReport(const Report& report);
std::string HtmlReport(const Report& report);

// "99", "99.9": of a field's name.
std::string PercentName(double percent);

}  // namespace tandem::load

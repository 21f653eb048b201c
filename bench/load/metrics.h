// From records to numbers, defined as `vllm bench serve` defines them (docs/bench.md), so that
// results compare. Pure.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/load/record.h"

namespace tandem::load {

// Of a request, in milliseconds; all that are given must hold.
struct Slo {
  std::optional<double> ttft_ms = {};
  std::optional<double> tpot_ms = {};
  std::optional<double> itl_ms = {};  // its longest gap
  std::optional<double> e2el_ms = {};
  bool empty() const { return !ttft_ms && !tpot_ms && !itl_ms && !e2el_ms; }
};

// In milliseconds. Of nothing: zeros, as numpy's of [0].
struct Distribution {
  double mean = 0;
  double median = 0;
  double std = 0;                   // of the population
  std::vector<double> percentiles;  // those asked for, in their order
};

struct Metrics {
  double duration_s = 0;
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t total_input_tokens = 0;  // of completed requests, like all that follows
  int64_t total_output_tokens = 0;
  int64_t total_cached_tokens = 0;
  double request_throughput = 0;  // 1/s
  std::optional<double> request_goodput;
  double output_throughput = 0;
  double total_token_throughput = 0;
  Distribution ttft, tpot, itl, e2el;
  Distribution ttft_text;   // to the first chunk with text in it
  Distribution send_delay;  // of all: due to sent; what this program and max_outstanding added
  double max_output_tokens_per_s = 0;
  int64_t max_concurrent_requests = 0;
  std::map<std::string, int64_t> errors;        // by kind
  std::map<std::string, std::string> an_error;  // of each kind, the first one's text
  std::map<int, int64_t> http_errors;           // by status, those of kind http_status
};

// REQUIRES: no record is pending.
Metrics ComputeMetrics(const std::deque<Record>& records, Nanos duration,
                       std::span<const double> percentiles, const Slo& slo);

Distribution Distribute(std::vector<double> values, std::span<const double> percentiles);

// Linear between the two nearest ranks, as numpy has it. REQUIRES: sorted, not empty.
double Percentile(std::span<const double> sorted, double percent);

}  // namespace tandem::load

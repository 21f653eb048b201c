// The command line, checked: what comes out of ParseOptions can be run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/load/driver.h"
#include "bench/load/metrics.h"
#include "bench/load/request_text.h"
#include "bench/load/target.h"
#include "bench/load/tls.h"
#include "bench/load/workload.h"

namespace tandem::load {

struct Options {
  std::string url;
  Target target;
  TlsOptions tls;
  RequestOptions request;  // model empty: the server's first
  DriverOptions driver;
  WorkloadOptions workload;
  Nanos timeout = 600 * kSecond;
  int64_t warmup = 0;
  std::vector<double> percentiles;
  Slo slo;
  std::string json_file;
  std::string html_file;
  bool detailed = false;
  bool allow_errors = false;
};

// Nothing: help was asked for and printed. An error is one line.
StatusOr<std::optional<Options>> ParseOptions(int argc, char** argv);

}  // namespace tandem::load

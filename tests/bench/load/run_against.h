// Whole runs against a server whose answers a test has written.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "bench/load/load_run.h"
#include "tests/bench/load/own_certificate.h"
#include "tests/bench/load/scripted_server.h"

namespace tandem::load {

using Outcomes = std::map<std::string, int>;

struct Plan {
  DriverOptions driver;
  WorkloadOptions workload;
  RequestOptions request;
  Nanos timeout = 60 * kSecond;
  int64_t warmup = 0;
  TlsOptions tls;
};

struct Ran {
  RunResult result;
  int64_t num_connects = 0;
  int64_t num_sent_again = 0;
  std::map<std::string, int> outcomes;
};

// Checks what holds for every run.
Ran RunAgainst(const std::string& url, Plan plan);

Plan Small(int64_t requests, int64_t concurrency);

// A whole stream and nothing else.
Script Whole(int tokens);

// Every fault there is, drawn for each request from its text: each request ends in the one outcome
// that belongs to what was done with it, and none is lost or counted twice.
// certificate: of a server with https; null: http.
void CheckEveryOutcome(Mode mode, const OwnCertificate* certificate = nullptr);

}  // namespace tandem::load

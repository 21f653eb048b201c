// The command line of tandem-simulate, read and checked.
#pragma once

#include <string>
#include <vector>

#include "bench/sim/simulation.h"
#include "bench/sim/stats.h"
#include "common/status.h"

namespace tandem::simulator {

// `NAME` or `NAME@fcfs`: with the engines in order of arrival instead of their own order.
struct PolicySpec {
  std::string name;  // as written
  std::string policy;
  bool fcfs = false;
  PolicyMaker make;
};

// "a,b@fcfs,c". kInvalidArgument names what there is.
StatusOr<std::vector<PolicySpec>> ParsePolicies(const std::string& list);

// "ttft=3s,itl=50ms", each at most once; empty: no objective.
StatusOr<Slo> ParseSlo(const std::string& text);

// "4:1.6": the last 4 groups take 1.6 times as long for a step.
struct SlowGroups {
  int count = 0;
  double factor = 1;
};
StatusOr<SlowGroups> ParseSlowGroups(const std::string& text);

}  // namespace tandem::simulator

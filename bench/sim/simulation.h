// One policy over one trace in virtual time: the routers' dispatchers and the groups' engines are
// the code that serves, only clock, network and device are made up.
//
//   arrival ─▶ Dispatcher ──link──▶ VirtualGroup ──link──▶ client        (tokens)
//                  ▲                     │
//                  └──link+report delay──┘                               (StepReports)
//
// What happens at one moment happens in a fixed order, so equal inputs give equal results.
// Thread: any; runs share nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "bench/sim/prompt.h"
#include "bench/sim/stats.h"
#include "bench/sim/virtual_group.h"
#include "router/routing/dispatcher.h"
#include "router/routing/policy.h"

namespace tandem::simulator {

struct SimulationOptions {
  routing::DispatcherOptions dispatcher;
  int num_routers = 1;  // requests go to them in turn; each knows of the others only by reports
  Nanos link_delay = 200 * kMicrosecond;  // between router and group, each way
  Nanos report_delay = 0;            // by which reports and KV events, not tokens, come later still
  Nanos load_window = 10 * kSecond;  // of RawResult::windows
  uint64_t seed = 0;
};

using PolicyMaker = std::function<std::unique_ptr<routing::Policy>()>;  // called for each router

// Until the last request has ended. REQUIRES: a group and a request at least.
RawResult Simulate(const Trace& trace, std::span<const GroupSpec> groups,
                   const SimulationOptions& options, const PolicyMaker& make_policy);

}  // namespace tandem::simulator

// Simulated groups as a process: all groups of one entry of the cluster file, or one of them. Each
// is a leader with its scheduler, block manager, prefix cache and links to the routers, whose ranks
// are a clock (sim/sim_ranks.h).
//
//   main thread      takes signals
//   engine thread    the leaders' turns, one after the other; sleeps until the next step ends
//   link thread      the routers' sockets of all groups (link/link_thread.h)
#pragma once

#include <vector>

#include "common/config/cluster_config.h"

namespace tandem::worker {

// Returns one of worker_process.h's exit codes. Blocks SIGTERM and SIGINT for good; either drains
// all groups. `name`: of the entry, or of the only group. REQUIRES: `groups` is not empty, all of
// one entry and simulated; the log is set up.
int RunSimulated(const config::Cluster& cluster, const std::vector<const config::Group*>& groups,
                 const std::string& name);

}  // namespace tandem::worker

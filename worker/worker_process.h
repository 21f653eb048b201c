// One rank as a process: meets its group, loads its shard, runs steps until the group ends.
//
//   main thread      loads, then runs plans (rank_loop.h)
//   watchdog thread  decides whether the group lives, takes signals (watchdog.h)
//   engine thread    rank 0: plans, commits, reports (leader.h)
//   link thread      rank 0: the routers' sockets (link/router_link.h)
#pragma once

#include "common/config/cluster_config.h"
#include "worker/model/model_runner.h"

namespace tandem::worker {

enum ExitCode {
  kExitDone = 0,       // told to stop, and everything was finished
  kExitFailed = 1,     // this machine cannot: no memory, no descriptor
  kExitMistake = 2,    // the operator's: one line says which
  kExitNoDevice = 3,   // no GPU here that could be used: one line says why
  kExitGroupLost = 75  // start all ranks of the group again
};

// Blocks SIGTERM and SIGINT for good. Call on the main thread before others exist.
// `gpu`: for groups with `device: cuda`; null: this build has none.
// REQUIRES: 0 <= rank < group.tp; the log is set up.
int RunWorker(const config::Cluster& cluster, const config::Group& group, int rank,
              const model::DeviceBackend* gpu);

}  // namespace tandem::worker

// The cluster file as the simulator needs it: groups on simulated devices, and the router's
// settings.
#pragma once

#include <string>
#include <vector>

#include "bench/sim/simulation.h"
#include "bench/sim/virtual_group.h"
#include "common/status.h"

namespace tandem::simulator {

struct SimCluster {
  std::vector<GroupSpec> groups;
  routing::DispatcherOptions dispatcher;
  std::string policy;
};

// Reads the cluster file and the device profiles it names; files that only real workers need, like
// the model's, are not looked at. kInvalidArgument: what `tandem check` would say, or that a group
// is not simulated.
StatusOr<SimCluster> LoadCluster(const std::string& path);

}  // namespace tandem::simulator

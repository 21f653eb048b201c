// What `tandem up` runs for a cluster file.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "deploy/cli/supervisor.h"
#include "deploy/cli/this_machine.h"

namespace tandem::cli {

struct UpOptions {
  std::string file;     // the cluster file
  std::string bin_dir;  // folder of tandem-router and tandem-worker
  config::Overrides overrides = {};
  std::function<bool(const std::string& host)> is_here = IsThisMachine;
};

// The router and the ranks of all groups, as command lines, less what the file says is elsewhere:
// ranks on other `hosts`, and the router if the endpoint that it binds is not of this machine.
std::vector<UnitSpec> UnitsOf(const config::Cluster& cluster, const UpOptions& options);

// Until it is stopped. Exit code as Supervisor::Run; also 2 for a mistake in the file.
int Up(const UpOptions& options);

}  // namespace tandem::cli

// What `tandem up` runs for a cluster file.
#pragma once

#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "deploy/cli/supervisor.h"

namespace tandem::cli {

struct UpOptions {
  std::string file;     // the cluster file
  std::string bin_dir;  // folder of tandem-router and tandem-worker
  config::Overrides overrides = {};
};

// The router and all ranks of all groups, as command lines.
std::vector<UnitSpec> UnitsOf(const config::Cluster& cluster, const UpOptions& options);

// Until it is stopped. Exit code as Supervisor::Run; also 2 for a mistake in the file.
int Up(const UpOptions& options);

}  // namespace tandem::cli

// `tandem drain`: a group of this machine finishes what it has and leaves.
#pragma once

#include <string>

#include "common/config/cluster_config.h"
#include "common/status.h"

namespace tandem::cli {

// Tells the group's leader to drain and returns once that process has ended: routers were told
// first, so what arrives meanwhile goes to other groups. The leader is the process that listens on
// the group's socket in links.runtime_dir. All groups of a simulated entry are one process, and
// `group` is the entry's name then. kNotFound: no leader of that name runs here. kInvalidArgument:
// no process is called so; the message says what to drain instead.
Status Drain(const config::Cluster& cluster, const std::string& group);

}  // namespace tandem::cli

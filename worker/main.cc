// tandem-worker: one rank of one group of the cluster file, or all groups of a simulated entry.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "common/config/cluster_config.h"
#include "common/observe/log.h"
#include "worker/sim_process.h"
#include "worker/worker_process.h"

#ifdef TANDEM_HAS_CUDA
#include "worker/model/cuda/backend.h"
#endif

namespace {

using tandem::worker::kExitMistake;

constexpr int kMostRanks = 64;  // groups[].tp

struct Arguments {
  std::string config;
  std::string group;
  int rank = -1;
  std::string model;
};

// What `device: cuda` means to this build.
const tandem::model::DeviceBackend* Gpu() {
#ifdef TANDEM_HAS_CUDA
  return &tandem::model::cuda::Backend();
#else
  return nullptr;
#endif
}

int Complain(const std::string& line) {
  std::fprintf(stderr, "%s\n", line.c_str());
  return kExitMistake;
}

std::string MistakeIn(const Arguments& arguments, const tandem::config::Cluster& cluster,
                      const std::vector<const tandem::config::Group*>& groups) {
  if (groups.empty()) {
    return fmt::format("{}: there is no group '{}'; it has {}", arguments.config, arguments.group,
                       cluster.GroupNames());
  }
  const tandem::config::Group& group = *groups.front();
  if (group.device == "sim") {
    if (arguments.rank < 0) return "";
    return fmt::format("{}: group '{}' is simulated and has no ranks; leave out --rank",
                       arguments.config, arguments.group);
  }
  if (groups.size() > 1) {
    return fmt::format("{}: '{}' is {} groups; one of {}", arguments.config, arguments.group,
                       groups.size(), cluster.GroupNames());
  }
  if (arguments.rank >= 0 && arguments.rank < group.tp) return "";
  return fmt::format("{}: group '{}' has tp {}, so --rank is 0 to {}{}", arguments.config,
                     group.name, group.tp, group.tp - 1,
                     arguments.rank < 0 ? "" : fmt::format("; there is no {}", arguments.rank));
}

int Run(const Arguments& arguments) {
  const auto cluster = tandem::config::Load(arguments.config, {.model_path = arguments.model});
  if (!cluster.ok()) return Complain(std::string(tandem::Message(cluster.status())));
  const auto groups = cluster->GroupsOf(arguments.group);
  const std::string mistake = MistakeIn(arguments, *cluster, groups);
  if (!mistake.empty()) return Complain(mistake);
  const bool simulated = arguments.rank < 0;
  const tandem::Status log = tandem::observe::InitLog(
      cluster->log.level, cluster->log.format,
      simulated ? "worker " + arguments.group
                : fmt::format("worker {}/{}", arguments.group, arguments.rank));
  if (!log.ok()) return Complain(std::string(tandem::Message(log)));
  if (simulated) return tandem::worker::RunSimulated(*cluster, groups, arguments.group);
  return tandem::worker::RunWorker(*cluster, *groups.front(), arguments.rank, Gpu());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("One rank of a group of a Tandem cluster.", "tandem-worker");
  Arguments arguments;
  app.add_option("--config", arguments.config, "cluster file")->required();
  app.add_option("--group", arguments.group,
                 "name of the group in it; of simulated groups also of the entry with all of them")
      ->required();
  app.add_option("--rank", arguments.rank, "0 is the leader; simulated groups have none")
      ->check(CLI::Range(0, kMostRanks - 1));
  app.add_option("--model", arguments.model, "GGUF file or folder instead of the cluster file's");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitMistake;
  }
  return Run(arguments);
}

// tandem-worker: one rank of one group of the cluster file.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "common/config/cluster_config.h"
#include "common/observe/log.h"
#include "worker/worker_process.h"

namespace {

using tandem::worker::kExitMistake;

struct Arguments {
  std::string config;
  std::string group;
  int rank = -1;
  std::string model;
};

int Complain(const std::string& line) {
  std::fprintf(stderr, "%s\n", line.c_str());
  return kExitMistake;
}

std::string NamesOf(const tandem::config::Cluster& cluster) {
  std::string names;
  for (const tandem::config::Group& group : cluster.groups) {
    names += (names.empty() ? "" : ", ") + group.name;
  }
  return names;
}

int Run(const Arguments& arguments) {
  const auto cluster = tandem::config::Load(arguments.config, {.model_path = arguments.model});
  if (!cluster.ok()) return Complain(std::string(tandem::Message(cluster.status())));
  const tandem::config::Group* group = cluster->FindGroup(arguments.group);
  if (group == nullptr) {
    return Complain(fmt::format("{}: there is no group '{}'; it has {}", arguments.config,
                                arguments.group, NamesOf(*cluster)));
  }
  if (arguments.rank >= group->tp) {
    return Complain(fmt::format("{}: group '{}' has tp {}, so ranks 0 to {}; there is no rank {}",
                                arguments.config, group->name, group->tp, group->tp - 1,
                                arguments.rank));
  }
  const tandem::Status log =
      tandem::observe::InitLog(cluster->log.level, cluster->log.format,
                               fmt::format("worker {}/{}", group->name, arguments.rank));
  if (!log.ok()) return Complain(std::string(tandem::Message(log)));
  return tandem::worker::RunWorker(*cluster, *group, arguments.rank);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("One rank of a group of a Tandem cluster.", "tandem-worker");
  Arguments arguments;
  app.add_option("--config", arguments.config, "cluster file")->required();
  app.add_option("--group", arguments.group, "name of the group in it")->required();
  app.add_option("--rank", arguments.rank, "0 is the leader")
      ->required()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--model", arguments.model, "GGUF file instead of the cluster file's");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitMistake;
  }
  return Run(arguments);
}

#include "deploy/cli/up.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/config/api_keys.h"
#include "common/observe/log.h"
#include "deploy/cli/process.h"

namespace tandem::cli {
namespace {

constexpr int kOperatorMistake = 2;
// Of `min_watchdog`. The group's own watchdog goes first (at 0.8 and 0.9, worker/step_limit.h),
// because it can name the culprit to the routers; what is left is for them to see that the leader's
// connection is closed (200 ms).
constexpr double kShareOfWatchdog = 0.94;

void AddCommonArguments(const config::Cluster& cluster, const UpOptions& options,
                        std::vector<std::string>* argv) {
  argv->insert(argv->end(), {"--config", options.file});
  if (!options.overrides.model_path.empty()) {
    argv->insert(argv->end(), {"--model", cluster.models.front().path});
  }
}

UnitSpec RouterUnit(const config::Cluster& cluster, const UpOptions& options) {
  ProcessSpec router = {"router", {options.bin_dir + "/tandem-router"}};
  AddCommonArguments(cluster, options, &router.argv);
  if (options.overrides.listen_port >= 0) {
    router.argv.insert(router.argv.end(),
                       {"--port", std::to_string(options.overrides.listen_port)});
  }
  return {"router", /*is_router=*/true, {router}};
}

// All groups of a simulated entry are one process.
UnitSpec SimulatedUnit(const config::Cluster& cluster, const config::Group& group,
                       const UpOptions& options) {
  ProcessSpec worker = {"worker " + group.entry, {options.bin_dir + "/tandem-worker"}};
  AddCommonArguments(cluster, options, &worker.argv);
  worker.argv.insert(worker.argv.end(), {"--group", group.entry});
  UnitSpec unit = {"groups " + group.entry, /*is_router=*/false, {worker}};
  unit.settings = config::SettingsOf(group);
  return unit;
}

bool RunsHere(const config::Group& group, int rank, const UpOptions& options) {
  if (group.hosts.empty()) return true;
  return options.is_here(group.hosts[group.hosts.size() == 1 ? 0 : static_cast<size_t>(rank)]);
}

// Without processes where all of its ranks are elsewhere.
UnitSpec GroupUnit(const config::Cluster& cluster, const config::Group& group,
                   const UpOptions& options) {
  UnitSpec unit = {"group " + group.name, /*is_router=*/false, {}};
  unit.settings = config::SettingsOf(group);
  unit.stopped_bound =
      static_cast<Nanos>(kShareOfWatchdog * static_cast<double>(group.min_watchdog));
  for (int rank = 0; rank < group.tp; ++rank) {
    if (!RunsHere(group, rank, options)) continue;
    ProcessSpec worker = {fmt::format("worker {}/{}", group.name, rank),
                          {options.bin_dir + "/tandem-worker"}};
    AddCommonArguments(cluster, options, &worker.argv);
    worker.argv.insert(worker.argv.end(), {"--group", group.name, "--rank", std::to_string(rank)});
    unit.processes.push_back(worker);
  }
  return unit;
}

Status CheckPrograms(const std::vector<UnitSpec>& units) {
  for (const UnitSpec& unit : units) {
    TANDEM_RETURN_IF_ERROR(CheckProgram(unit.processes.front().argv.front()));
  }
  return OkStatus();
}

// What the router would refuse when it reads it, before anything is changed for it.
Status CheckApiKeys(const config::Cluster& cluster, const std::vector<UnitSpec>& units) {
  const bool router =
      std::any_of(units.begin(), units.end(), [](const UnitSpec& unit) { return unit.is_router; });
  return router ? config::CheckApiKeys(cluster) : OkStatus();
}

int Fail(const Status& status) {
  const std::string_view message = Message(status);
  std::fprintf(stderr, "%.*s\n", static_cast<int>(message.size()), message.data());
  return kOperatorMistake;
}

}  // namespace

std::vector<UnitSpec> UnitsOf(const config::Cluster& cluster, const UpOptions& options) {
  std::vector<UnitSpec> units;
  const std::string router_host = HostOf(cluster.links.routers.front());
  if (router_host.empty() || options.is_here(router_host)) {
    units.push_back(RouterUnit(cluster, options));
  }
  std::string last_simulated;  // entry; its groups follow each other
  for (const config::Group& group : cluster.groups) {
    if (group.device != "sim") {
      UnitSpec unit = GroupUnit(cluster, group, options);
      if (!unit.processes.empty()) units.push_back(std::move(unit));
    } else if (group.entry != last_simulated) {
      units.push_back(SimulatedUnit(cluster, group, options));
      last_simulated = group.entry;
    }
  }
  return units;
}

int Up(const UpOptions& options) {
  const StatusOr<config::Cluster> cluster = config::Load(options.file, options.overrides);
  if (!cluster.ok()) return Fail(cluster.status());
  const std::vector<UnitSpec> units = UnitsOf(*cluster, options);
  if (units.empty()) {
    return Fail(InvalidArgument(
        "{}: nothing of it runs on this machine; neither a group's 'hosts' nor the first of "
        "'links.routers' is an address of it",
        options.file));
  }
  if (const Status status = CheckPrograms(units); !status.ok()) return Fail(status);
  if (const Status status = CheckApiKeys(*cluster, units); !status.ok()) return Fail(status);
  if (const Status status = observe::InitLog(cluster->log.level, cluster->log.format, "up");
      !status.ok()) {
    return Fail(status);
  }
  SupervisorOptions supervision;
  supervision.reload = [&options]() -> StatusOr<std::vector<UnitSpec>> {
    TANDEM_ASSIGN_OR_RETURN(const config::Cluster now,
                            config::Load(options.file, options.overrides));
    std::vector<UnitSpec> units_now = UnitsOf(now, options);
    TANDEM_RETURN_IF_ERROR(CheckApiKeys(now, units_now));
    return units_now;
  };
  // The router itself gives up at drain_timeout; the rest is for closing down.
  supervision.router_bound = cluster->router.limits.drain_timeout + 5 * kSecond;
  return Supervisor(units, supervision).Run();
}

}  // namespace tandem::cli

#include "bench/sim/cluster.h"

#include <map>
#include <string_view>

#include "common/config/cluster_config.h"
#include "common/config/device_profile.h"
#include "common/config/problem.h"

namespace tandem::simulator {
namespace {

// Token ids stand for hash ids here and mean nothing; as many as Llama 3 has.
constexpr int kVocabSize = 128'256;
constexpr std::string_view kWhat = "a cluster file, like configs/sim_h100.yaml";
// Where the file sets no limit, the KV memory does.
constexpr int kAnyContext = 1 << 20;

StatusOr<GroupSpec> SpecOf(const config::Cluster& cluster, const config::Group& group,
                           const DeviceProfile& profile) {
  const int64_t num_blocks = profile.kv_tokens / group.block_size;
  if (num_blocks < 1) {
    return InvalidArgument("{}: kv_tokens is {}, less than a block of {} (group '{}')",
                           group.profile, profile.kv_tokens, group.block_size, group.name);
  }
  const int max_context = cluster.ModelOf(group).max_context;
  GroupSpec spec;
  spec.name = group.name;
  spec.device_class = fmt::format("sim/{}", profile.name);
  spec.profile = profile;
  spec.engine.num_blocks = static_cast<int>(num_blocks);
  spec.engine.block_size = group.block_size;
  spec.engine.max_context = max_context > 0 ? max_context : kAnyContext;
  spec.engine.vocab_size = kVocabSize;
  spec.engine.max_seqs = group.max_seqs;
  spec.engine.max_step_tokens = group.max_step_tokens;
  spec.engine.max_step_time = group.max_step_time;
  spec.engine.hash_seed = fmt::format("sim/{}", group.model);
  return spec;
}

Status CheckGroup(const config::Cluster& cluster, const config::Group& group) {
  if (group.device != "sim") {
    return InvalidArgument(
        "{}: group '{}' has device '{}'; only groups with 'device: sim' and a "
        "profile can be simulated",
        cluster.file, group.name, group.device);
  }
  if (group.model != cluster.groups[0].model) {
    return InvalidArgument(
        "{}: group '{}' serves '{}' and '{}' serves '{}'; "
        "simulate one model at "
        "a time",
        cluster.file, cluster.groups[0].name, cluster.groups[0].model, group.name, group.model);
  }
  return OkStatus();
}

}  // namespace

StatusOr<SimCluster> LoadCluster(const std::string& path) {
  TANDEM_ASSIGN_OR_RETURN(const std::string yaml, config::ReadYamlFile(path, kWhat));
  TANDEM_ASSIGN_OR_RETURN(const config::Cluster cluster, config::Parse(yaml, path));
  SimCluster loaded;
  std::map<std::string, DeviceProfile> profiles;  // by path: many groups have the same
  for (const config::Group& group : cluster.groups) {
    TANDEM_RETURN_IF_ERROR(CheckGroup(cluster, group));
    if (!profiles.contains(group.profile)) {
      TANDEM_ASSIGN_OR_RETURN(profiles[group.profile], config::LoadDeviceProfile(group.profile));
    }
    TANDEM_ASSIGN_OR_RETURN(GroupSpec spec, SpecOf(cluster, group, profiles[group.profile]));
    loaded.groups.push_back(std::move(spec));
  }
  const config::Admission& admission = cluster.router.admission;
  loaded.dispatcher.max_queued = admission.max_queued;
  loaded.dispatcher.max_group_backlog = admission.max_group_backlog;
  loaded.dispatcher.default_deadline = admission.ttft_deadline;
  loaded.policy = cluster.router.policy;
  return loaded;
}

}  // namespace tandem::simulator

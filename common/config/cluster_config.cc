#include "common/config/cluster_config.h"

#include <filesystem>
#include <iterator>
#include <set>
#include <string_view>

#include "common/config/device_profile.h"
#include "common/config/problem.h"
#include "common/config/reader.h"
#include "common/config/schema.h"
#include "common/config/values.h"
#include "common/config/yaml_tree.h"

namespace tandem::config {
namespace {

constexpr std::string_view kWhat = "a cluster file, like configs/quickstart.yaml";

// Last, because it goes before what the file says.
Status Apply(const Overrides& overrides, bool check_files, Cluster* cluster) {
  if (!overrides.model_path.empty()) {
    cluster->model.path = std::filesystem::absolute(overrides.model_path).lexically_normal();
    if (check_files) {
      const Status status = CheckFile(cluster->model.path);
      if (!status.ok()) return InvalidArgument("--model {}", Message(status));
    }
  }
  if (overrides.listen_port >= 0) cluster->router.listen_port = overrides.listen_port;
  if (cluster->model.name.empty()) {
    cluster->model.name = std::filesystem::path(cluster->model.path).stem();
  }
  return OkStatus();
}

// So that a mistake in a profile is found where those of the cluster file are.
Status CheckProfiles(const Cluster& cluster) {
  std::set<std::string> seen;
  for (const Group& group : cluster.groups) {
    if (group.profile.empty() || !seen.insert(group.profile).second) continue;
    TANDEM_RETURN_IF_ERROR(LoadDeviceProfile(group.profile).status());
  }
  return OkStatus();
}

StatusOr<Cluster> Read(const std::string& yaml, const std::string& path, const Overrides& overrides,
                       bool check_files) {
  YamlNode root;
  YamlError error;
  if (!ParseYaml(yaml, &root, &error)) return Report(path, {{error.at, error.message}});
  Cluster cluster;
  cluster.file = path;
  Reader reader(&cluster, check_files, !overrides.model_path.empty());
  reader.Read(root);
  const Status applied = Apply(overrides, check_files, &cluster);
  if (!reader.problems().empty()) {
    const Status report = Report(path, reader.problems());
    if (applied.ok()) return report;
    return InvalidArgument("{}\n{}", Message(applied), Message(report));
  }
  if (!applied.ok()) return applied;
  if (check_files) TANDEM_RETURN_IF_ERROR(CheckProfiles(cluster));
  return cluster;
}

std::string SectionTitle(const Section& section) {
  return section.list ? fmt::format("{}[]", section.path) : std::string(section.path);
}

}  // namespace

const Group* Cluster::FindGroup(const std::string& name) const {
  for (const Group& group : groups) {
    if (group.name == name) return &group;
  }
  return nullptr;
}

std::vector<const Group*> Cluster::GroupsOf(const std::string& name) const {
  std::vector<const Group*> found;
  for (const Group& group : groups) {
    if (group.entry == name || group.name == name) found.push_back(&group);
  }
  return found;
}

std::string Cluster::GroupNames() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < groups.size(); i += static_cast<size_t>(groups[i].count)) {
    const Group& first = groups[i];
    names.push_back(first.count == 1
                        ? first.name
                        : fmt::format("{0}-0 to {0}-{1}", first.entry, first.count - 1));
  }
  return Join(names, ", ");
}

StatusOr<Cluster> Load(const std::string& path, const Overrides& overrides) {
  TANDEM_ASSIGN_OR_RETURN(const std::string yaml, ReadYamlFile(path, kWhat));
  return Read(yaml, path, overrides, /*check_files=*/true);
}

StatusOr<Cluster> Parse(const std::string& yaml, const std::string& path,
                        const Overrides& overrides) {
  return Read(yaml, path, overrides, /*check_files=*/false);
}

std::string Reference() {
  std::string text;
  for (const Section& section : Sections()) {
    if (section.path.empty()) continue;
    fmt::format_to(std::back_inserter(text),
                   "### `{}`\n\n{}.\n\n| key | value | default | meaning |\n| --- | --- | --- | "
                   "--- |\n",
                   SectionTitle(section), section.help);
    for (const Key& key : Keys()) {
      if (key.section != section.path) continue;
      fmt::format_to(std::back_inserter(text), "| `{}` | {} | {} | {} |\n", key.name, TypeText(key),
                     DefaultText(key), key.help);
    }
    text += '\n';
  }
  return text;
}

}  // namespace tandem::config

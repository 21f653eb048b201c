#include "common/config/cluster_config.h"

#include <filesystem>
#include <iterator>
#include <set>
#include <string_view>

#include "common/check.h"
#include "common/config/device_profile.h"
#include "common/config/problem.h"
#include "common/config/reader.h"
#include "common/config/schema.h"
#include "common/config/values.h"
#include "common/config/yaml_tree.h"

namespace tandem::config {
namespace {

constexpr std::string_view kWhat = "a cluster file, like configs/quickstart.yaml";

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
  std::string model_path;
  Status model = OkStatus();
  if (!overrides.model_path.empty()) {
    model_path = std::filesystem::absolute(overrides.model_path).lexically_normal();
    if (check_files) model = CheckModel(model_path);
    if (!model.ok()) model = InvalidArgument("--model {}", Message(model));
  }
  Reader reader(&cluster, check_files, model_path);
  reader.Read(root);
  if (!reader.problems().empty()) {
    const Status report = Report(path, reader.problems());
    return model.ok() ? report : InvalidArgument("{}\n{}", Message(model), Message(report));
  }
  if (!model.ok()) return model;
  if (overrides.listen_port >= 0) cluster.router.listen_port = overrides.listen_port;
  if (check_files) TANDEM_RETURN_IF_ERROR(CheckProfiles(cluster));
  return cluster;
}

std::string SectionTitle(const Section& section) {
  if (!section.list) return std::string(section.path);
  // A list inside a list has a list's path.
  const std::string parent = section.parent.empty() ? "" : fmt::format("{}[].", section.parent);
  return fmt::format("{}{}[]", parent, section.name);
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

const Model* Cluster::FindModel(const std::string& name) const {
  for (const Model& model : models) {
    if (model.name == name) return &model;
  }
  return nullptr;
}

const Model& Cluster::ModelOf(const Group& group) const {
  const Model* model = FindModel(group.model);
  TANDEM_CHECK(model != nullptr) << "group '" << group.name << "' has the model '" << group.model
                                 << "', which is not in the file";
  return *model;
}

StatusOr<Cluster> Load(const std::string& path, const Overrides& overrides) {
  TANDEM_ASSIGN_OR_RETURN(const std::string yaml, ReadYamlFile(path, kWhat));
  return Read(yaml, path, overrides, /*check_files=*/true);
}

StatusOr<Cluster> Parse(const std::string& yaml, const std::string& path,
                        const Overrides& overrides) {
  return Read(yaml, path, overrides, /*check_files=*/false);
}

std::vector<std::string> NeedRestart(const Cluster& before, const Cluster& after) {
  std::vector<std::string> differ;
  const auto same = [](const Model& a, const Model& b) {
    return a.name == b.name && a.path == b.path && a.max_context == b.max_context &&
           a.pooling == b.pooling;
  };
  if (!std::equal(before.models.begin(), before.models.end(), after.models.begin(),
                  after.models.end(), same)) {
    differ.emplace_back("models");
  }
  Cluster old = before, now = after;  // a Target is mutable
  Entries none;
  for (const Key& key : Keys()) {
    const bool of_router =
        key.section.starts_with("router") || key.section == "links" || key.section == "log";
    if (!of_router || key.live) continue;
    if (ValueText(key, none.Of(old)) != ValueText(key, none.Of(now))) {
      differ.push_back(fmt::format("{}.{}", key.section, key.name));
    }
  }
  return differ;
}

std::string SettingsOf(const Group& group) {
  Cluster cluster;
  Entries entries;
  entries.group = group;
  std::string text;
  for (const Key& key : Keys()) {
    if (key.section != "groups") continue;
    fmt::format_to(std::back_inserter(text), "{}{}: {}", text.empty() ? "" : ", ", key.name,
                   ValueText(key, entries.Of(cluster)));
  }
  return text;
}

std::string Reference() {
  std::string text;
  for (const Section& section : Sections()) {
    if (section.path.empty()) continue;
    if (!section.like.empty()) continue;  // said where the keys are
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

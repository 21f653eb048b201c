// The half of Reader that knows that an entry of `groups` may be several groups, and that some of
// them are simulated.
#include <string_view>
#include <utility>

#include "common/config/reader.h"
#include "common/config/values.h"

namespace tandem::config {
namespace {

constexpr size_t kMaxGroups = 4096;
constexpr std::string_view kSimulated = "sim";

// What a device profile says, or nothing does.
constexpr std::string_view kNotOfSimulated[] = {
    "hosts",           "rendezvous_port",  "tp",        "threads",        "pin",
    "instruction_set", "activation_dtype", "kv_memory", "kv_cache_dtype", "devices",
    "cuda_graphs",     "peer_memory"};

std::string NameOf(const Group& group, int i) {
  return group.count == 1 ? group.name : fmt::format("{}-{}", group.name, i);
}

}  // namespace

void Reader::CheckNames(const YamlNode& name, const Group& group, const std::string& path) {
  if (group_names_.size() + static_cast<size_t>(group.count) > kMaxGroups) {
    Add(name.at, fmt::format("'{}' brings the number of groups beyond {}", path, kMaxGroups));
    return;
  }
  for (int i = 0; i < group.count; ++i) {
    const std::string full = NameOf(group, i);
    if (!group_names_.insert(full).second) {
      Add(name.at,
          fmt::format("'{}.name' is '{}', as another group's; a name of its own", path, full));
      return;
    }
    if (group.name.empty() || CheckName(full).ok()) continue;
    Add(name.at, fmt::format("'{}': {}", path, Message(CheckName(full))));
    return;
  }
}

void Reader::CheckDevice(const YamlNode& node, const Group& group, const std::string& path) {
  const YamlNode* profile = FindValue(node, "profile");
  if (group.device != kSimulated) {
    CheckGpus(node, group, path);
    if (profile == nullptr) return;
    Add(profile->at, fmt::format("'{}.profile' is of simulated groups; take it out, or say "
                                 "'device: sim'",
                                 path));
    return;
  }
  if (profile == nullptr) {
    Add(FindValue(node, "device")->at,
        fmt::format("'{}.profile' is missing; a simulated group needs a device profile, like "
                    "configs/devices/h100-llama3-8b.yaml",
                    path));
  }
  RefuseKeys(node, path, kNotOfSimulated,
             "means nothing to a simulated group; take it out, its device profile says what it is");
}

void Reader::RefuseKeys(const YamlNode& node, const std::string& path,
                        std::span<const std::string_view> keys, std::string_view why) {
  for (const std::string_view key : keys) {
    const YamlNode* value = FindValue(node, key);
    if (value != nullptr) Add(value->at, fmt::format("'{}.{}' {}", path, key, why));
  }
}

void Reader::WriteOutCounts() {
  std::vector<Group> all;
  for (const Group& entry : cluster_->groups) {
    for (int i = 0; i < entry.count && all.size() < kMaxGroups; ++i) {
      all.push_back(entry);
      all.back().entry = entry.name;
      all.back().name = NameOf(entry, i);
      if (entry.count > 1) TakeGpus(i, &all.back());
    }
  }
  cluster_->groups = std::move(all);
}

}  // namespace tandem::config

// The half of Reader that knows what a GPU takes and what only a GPU takes.
#include <algorithm>

#include "common/config/reader.h"
#include "common/config/values.h"

namespace tandem::config {
namespace {

constexpr std::string_view kGpu = "cuda";
constexpr std::string_view kNotOfGpus[] = {"threads", "pin", "instruction_set", "kv_cache_dtype"};
constexpr std::string_view kOnlyOfGpus[] = {"devices", "cuda_graphs", "peer_memory"};
constexpr int kStepTokens = 2048;  // fewer leave a GPU idle

bool CanActivate(bool gpu, const std::string& dtype) {
  return dtype == "bf16" || gpu == (dtype == "f16");
}

}  // namespace

// What is left out has another value than on a CPU.
void Reader::SettleDevice(const YamlNode& node, Group* group) {
  if (node.kind != YamlNode::Kind::kMap || group->device == "cpu") return;
  if (FindValue(node, "max_step_time") == nullptr) group->max_step_time = 0;
  if (group->device != kGpu) return;
  if (FindValue(node, "activation_dtype") == nullptr) group->activation_dtype = "bf16";
  if (FindValue(node, "kv_memory") == nullptr) group->kv_memory_bytes = 0;
  if (FindValue(node, "max_step_tokens") == nullptr) group->max_step_tokens = kStepTokens;
  group->kv_cache_dtype = group->activation_dtype;
}

// Group `index` of an entry has the GPUs after those of the groups before it.
void Reader::TakeGpus(int index, Group* group) {
  if (group->device != kGpu || !group->devices.empty()) return;
  for (int rank = 0; rank < group->tp; ++rank) group->devices.push_back(index * group->tp + rank);
}

void Reader::SetIntegers(const Key& key, const YamlNode& node, const std::string& path,
                         std::vector<int>* field) {
  if (node.kind != YamlNode::Kind::kList || node.items.empty()) {
    Add(node.at, fmt::format("'{}' is {}; a {}", path,
                             node.kind == YamlNode::Kind::kList ? "an empty list" : KindText(node),
                             TypeText(key)));
    return;
  }
  field->clear();
  for (const YamlNode& item : node.items) {
    const std::string place = fmt::format("{}[{}]", path, field->size());
    const StatusOr<int64_t> number = ParseInteger(item.text);
    if (!number.ok() || *number < key.min || *number > key.max) {
      Add(item.at, fmt::format("'{}' is '{}'; a {}", place, item.text, TypeText(key)));
      field->push_back(-1 - static_cast<int>(field->size()));  // like no other
      continue;
    }
    if (std::find(field->begin(), field->end(), *number) != field->end()) {
      Add(item.at, fmt::format("'{}': {} stands in the list twice; once", place, *number));
    }
    field->push_back(static_cast<int>(*number));
  }
}

void Reader::CheckGpus(const YamlNode& node, const Group& group, const std::string& path) {
  const bool gpu = group.device == kGpu;
  const YamlNode* dtype = FindValue(node, "activation_dtype");
  if (dtype != nullptr && !CanActivate(gpu, group.activation_dtype)) {
    Add(dtype->at, fmt::format("'{}.activation_dtype' is {} with 'device: {}'; {}", path,
                               group.activation_dtype, group.device,
                               gpu ? "bf16 or f16" : "int8, bf16 or f32"));
  }
  if (!gpu) {
    RefuseKeys(node, path, kOnlyOfGpus, "is for 'device: cuda'; take it out");
    if (group.kv_memory_bytes == 0) {
      Add(FindValue(node, "kv_memory")->at,
          fmt::format("'{}.kv_memory' is auto, which is for 'device: cuda'; a size", path));
    }
    return;
  }
  RefuseKeys(node, path, kNotOfGpus, "is for 'device: cpu'; take it out");
  const YamlNode* devices = FindValue(node, "devices");
  if (group.devices.empty()) return;
  if (group.devices.size() != static_cast<size_t>(group.tp)) {
    Add(devices->at, fmt::format("'{}.devices' are {}, and tp is {}; a GPU for each rank", path,
                                 group.devices.size(), group.tp));
  }
  if (group.count > 1) {
    Add(devices->at, fmt::format("'{}' is {} groups that would share these GPUs; an entry for each "
                                 "group",
                                 path, group.count));
  }
}

}  // namespace tandem::config

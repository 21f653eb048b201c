#include "common/config/schema.h"

#include "common/config/values.h"

namespace tandem::config {
namespace {

std::string FieldText(KeyType type, const Field& field) {
  if (const auto* flag = std::get_if<bool*>(&field)) return **flag ? "true" : "false";
  if (const auto* numbers = std::get_if<std::vector<int>*>(&field)) {
    std::vector<std::string> texts;
    for (const int number : **numbers) texts.push_back(fmt::format("{}", number));
    return texts.empty() ? "none" : fmt::format("[{}]", Join(texts, ", "));
  }
  if (const auto* number = std::get_if<int*>(&field)) {
    return type == KeyType::kBytes ? FormatBytes(**number) : fmt::format("{}", **number);
  }
  if (const auto* number = std::get_if<int64_t*>(&field)) {
    return type == KeyType::kBytes ? FormatBytes(**number) : FormatDuration(**number);
  }
  if (const auto* text = std::get_if<std::string*>(&field)) {
    return (*text)->empty() ? "none" : **text;
  }
  if (const auto* list = std::get_if<std::vector<std::string>*>(&field)) {
    return (*list)->empty() ? "none" : fmt::format("[{}]", Join(**list, ", "));
  }
  const auto& address = std::get<AddressField>(field);
  return FormatAddress({*address.host, *address.port});
}

}  // namespace

const std::vector<Section>& Sections() {
  static const std::vector<Section> kSections = {
      {"", "", "", "the file"},
      {"models", "", "models",
       "What is served, one list entry each; a cluster of one model may say `model: {...}` instead",
       true, true},
      {"model", "", "model", "A list of one", false, false, "models"},
      {"groups", "", "groups", "The replicas of the models, one list entry each", true, true},
      {"aliases", "", "aliases", "More names of models, one list entry each", false, true},
      {"aliases.choices", "aliases", "choices",
       "Models from large to small: the first whose conditions a request meets serves it, the last "
       "one what is left. A choice is passed over also when none of its groups is up, or when its "
       "prediction misses the request's deadline",
       false, true},
      {"router", "", "router", "The HTTP side"},
      {"router.limits", "router", "limits", "What clients may ask of the router"},
      {"router.admission", "router", "admission", "When requests wait, and when they are refused"},
      {"links", "", "links", "How the processes find each other"},
      {"log", "", "log", "What the processes write to standard error"},
  };
  return kSections;
}

std::vector<std::string> NamesIn(std::string_view section) {
  std::vector<std::string> names;
  for (const Section& here : Sections()) {
    if (here.path != section) continue;
    for (const Key& key : Keys()) {
      if (key.section == here.keys()) names.emplace_back(key.name);
    }
  }
  for (const Section& inner : Sections()) {
    if (!inner.path.empty() && inner.parent == section) names.emplace_back(inner.name);
  }
  return names;
}

std::string TypeText(const Key& key) {
  switch (key.type) {
    case KeyType::kText:
      return "text";
    case KeyType::kHeader:
      return "name of a header";
    case KeyType::kName:
      return "name";
    case KeyType::kNewFile:
    case KeyType::kFile:
      return "path of a file";
    case KeyType::kFolder:
      return "path of a folder";
    case KeyType::kInteger:
      if (key.multiple > 1) {
        return fmt::format("multiple of {}, {} to {}", key.multiple, key.min, key.max);
      }
      return fmt::format("{}integer, {} to {}",
                         key.zero.empty() ? "" : fmt::format("{} or ", key.zero), key.min, key.max);
    case KeyType::kFlag:
      return "true or false";
    case KeyType::kBytes:
      return fmt::format("{}size, {} to {}",
                         key.zero.empty() ? "" : fmt::format("{} or ", key.zero),
                         FormatBytes(key.min), FormatBytes(key.max));
    case KeyType::kDuration:
      return fmt::format("duration, {} to {}", FormatDuration(key.min), FormatDuration(key.max));
    case KeyType::kChoice:
      return Join(key.choices, " or ");
    case KeyType::kAddress:
      return "address:port";
    case KeyType::kEndpoints:
      return "list of endpoints";
    case KeyType::kHosts:
      return "list of hosts";
    case KeyType::kIntegers:
      return fmt::format("list of integers, {} to {}", key.min, key.max);
  }
  return "";
}

std::string ValueText(const Key& key, const Target& target) {
  const Field field = key.field(target);
  const auto* const* bytes = std::get_if<int64_t*>(&field);
  const auto* const* integer = std::get_if<int*>(&field);
  const bool is_zero = (bytes != nullptr && **bytes == 0) || (integer != nullptr && **integer == 0);
  if (is_zero && !key.zero.empty()) return std::string(key.zero);
  return FieldText(key.type, field);
}

std::string DefaultText(const Key& key) {
  if (key.required) return "required";
  Cluster cluster;
  Entries entries;
  return ValueText(key, entries.Of(cluster));
}

}  // namespace tandem::config

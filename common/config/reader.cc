#include "common/config/reader.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "common/config/values.h"

namespace tandem::config {
namespace {

constexpr size_t kMaxEntries = 256;  // of a list
constexpr size_t kMaxRouters = 64;
// Folder, group name (at most 32) and an ending are the path of a Unix socket, which has 107
// characters at most.
constexpr size_t kMaxRuntimeDir = 60;

std::string Inside(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

Status CheckChoice(const Key& key, const std::string& text) {
  if (std::find(key.choices.begin(), key.choices.end(), text) != key.choices.end()) {
    return OkStatus();
  }
  const std::string nearest = Nearest(text, key.choices);
  if (!nearest.empty())
    return InvalidArgument("'{}' is unknown; did you mean '{}'?", text, nearest);
  return InvalidArgument("'{}' is not supported; {}", text, TypeText(key));
}

// The key that an entry of a list begins with.
std::string_view FirstKey(const Section& section) {
  for (const Key& key : Keys()) {
    if (key.section == section.keys() && key.required) return key.name;
  }
  return "name";
}

}  // namespace

std::string ResolvePath(const std::string& file, const std::string& path) {
  std::error_code error;  // of current_path only: then the path stays as it is
  const auto folder = std::filesystem::absolute(file, error).parent_path();
  return (folder / path).lexically_normal().string();
}

Status CheckFile(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return NotFound("'{}': {}; give the path of a file", path, std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) return NotFound("'{}' is not a file; give the path of one", path);
  if (access(path.c_str(), R_OK) != 0) {
    return NotFound("'{}' cannot be read: {}; give read permission", path, std::strerror(errno));
  }
  return OkStatus();
}

Status CheckModel(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) return CheckFile(path);
  return CheckFile(path + "/config.json");
}

Reader::Reader(Cluster* cluster, bool check_files, const std::string& model_given)
    : cluster_(cluster), check_files_(check_files), model_given_(model_given) {}

void Reader::Read(const YamlNode& root) {
  if (root.kind == YamlNode::Kind::kNothing) {
    Add(root.at, "the file is empty; a cluster file has at least 'models' and 'groups'");
    return;
  }
  Entries none;
  ReadSection(Sections().front(), root, "", none.Of(*cluster_));
  Resolve(root);
  WriteOutCounts();
  std::sort(problems_.begin(), problems_.end());
}

void Reader::ReadSection(const Section& section, const YamlNode& node, const std::string& path,
                         const Target& target) {
  const std::vector<std::string> known = NamesIn(section.path);
  if (node.kind != YamlNode::Kind::kMap) {
    Add(node.at, fmt::format("{} is {}; a map with the keys {}",
                             path.empty() ? "the file" : fmt::format("'{}'", path), KindText(node),
                             Join(known, ", ")));
    return;
  }
  std::set<std::string> seen;
  for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const YamlNode& key = node.items[i];
    if (key.kind != YamlNode::Kind::kScalar) {
      Add(key.at, fmt::format("a key that is {}; one of {}", KindText(key), Join(known, ", ")));
    } else if (std::find(known.begin(), known.end(), key.text) == known.end()) {
      Add(key.at,
          UnknownKey(key.text, path.empty() ? "at the top" : fmt::format("in {}", path), known));
    } else if (!seen.insert(key.text).second) {
      Add(key.at, fmt::format("'{}' stands here a second time; keep one", Inside(path, key.text)));
    } else {
      ReadEntry(section, key, node.items[i + 1], path, target);
    }
  }
  RequireAll(section, node, path);
}

void Reader::ReadEntry(const Section& section, const YamlNode& key, const YamlNode& value,
                       const std::string& path, const Target& target) {
  for (const Section& inner : Sections()) {
    if (inner.path.empty() || inner.parent != section.path || inner.name != key.text) continue;
    const std::string inside = Inside(path, inner.name);
    if (inner.list) return ReadList(inner, value, inside, target);
    if (inner.path == "model") return ReadItem(inner, value, inside, target);
    return ReadSection(inner, value, inside, target);
  }
  for (const Key& known : Keys()) {
    if (known.section != section.keys() || known.name != key.text) continue;
    return ReadValue(known, value, Inside(path, known.name), target);
  }
}

void Reader::ReadList(const Section& section, const YamlNode& node, const std::string& path,
                      const Target& target) {
  if (node.kind != YamlNode::Kind::kList || node.items.empty()) {
    Add(node.at, fmt::format("'{}' is {}; a list of entries that begin with '- {}: ...'", path,
                             node.kind == YamlNode::Kind::kList ? "an empty list" : KindText(node),
                             FirstKey(section)));
    return;
  }
  if (node.items.size() > kMaxEntries) {
    Add(node.at,
        fmt::format("'{}' has {} entries; at most {}", path, node.items.size(), kMaxEntries));
    return;
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    ReadItem(section, node.items[i], fmt::format("{}[{}]", path, i), target);
  }
}

// Broken entries are kept too: entry i stays the i-th.
void Reader::ReadItem(const Section& section, const YamlNode& node, const std::string& path,
                      const Target& target) {
  Entries entries;
  if (section.path == "aliases.choices") {
    ReadSection(section, node, path,
                {target.cluster, target.model, target.group, target.alias, entries.choice,
                 entries.alias_model});
    target.alias.choices.push_back(std::move(entries.choice));
    return;
  }
  ReadSection(section, node, path, entries.Of(*cluster_));
  if (section.path == "groups") {
    SettleDevice(node, &entries.group);
    CheckGroup(node, entries.group, path);
    cluster_->groups.push_back(std::move(entries.group));
  } else if (section.path == "aliases") {
    CheckAlias(node, path, entries.alias_model, &entries.alias);
    cluster_->aliases.push_back(std::move(entries.alias));
  } else {
    cluster_->models.push_back(std::move(entries.model));
  }
}

void Reader::CheckGroup(const YamlNode& node, const Group& group, const std::string& path) {
  if (node.kind != YamlNode::Kind::kMap) return;
  const YamlNode* name = FindValue(node, "name");
  if (name != nullptr) CheckNames(*name, group, path);
  CheckDevice(node, group, path);
  CheckHosts(node, group, path);
  if (group.max_seqs > group.max_step_tokens) {
    const YamlNode* seqs = FindValue(node, "max_seqs");
    if (seqs == nullptr) seqs = FindValue(node, "max_step_tokens");
    Add(seqs->at,
        fmt::format("'{0}.max_seqs' is {1} but a step has {2} tokens; max_seqs at most {2}, "
                    "because each running sequence takes one token of every step",
                    path, group.max_seqs, group.max_step_tokens));
  }
}

void Reader::CheckAlias(const YamlNode& node, const std::string& path, const std::string& model,
                        Alias* alias) {
  if (node.kind != YamlNode::Kind::kMap) return;
  const bool has_model = FindValue(node, "model") != nullptr;
  const bool has_choices = FindValue(node, "choices") != nullptr;
  if (has_model == has_choices) {
    Add(node.at,
        fmt::format("'{}' has {}; one of them says what it stands for", path,
                    has_model ? "both 'model' and 'choices'" : "neither 'model' nor 'choices'"));
  }
  if (!has_choices && !model.empty()) alias->choices.push_back({.model = model});
  if (!has_choices || alias->choices.empty()) return;
  const AliasChoice& last = alias->choices.back();
  if (last.max_prompt_tokens != 0 || last.max_ttft != 0 || last.share != 100) {
    Add(FindValue(node, "choices")->items.back().at,
        fmt::format("'{}.choices[{}]' is the last, which takes what is left; only its model", path,
                    alias->choices.size() - 1));
  }
}

void Reader::RequireAll(const Section& section, const YamlNode& node, const std::string& path) {
  for (const Section& inner : Sections()) {
    if (!inner.required || inner.parent != section.path) continue;
    if (FindValue(node, inner.name) != nullptr) continue;
    const bool models = inner.path == "models";
    if (models && (!model_given_.empty() || FindValue(node, "model") != nullptr)) continue;
    Add(node.at, fmt::format("'{}' is missing; a list of entries that begin with '- {}: ...'",
                             Inside(path, inner.name), FirstKey(inner)));
  }
  for (const Key& key : Keys()) {
    if (!key.required || key.section != section.keys()) continue;
    if (FindValue(node, key.name) != nullptr) continue;
    if (key.type == KeyType::kFile && !model_given_.empty()) continue;
    Add(node.at, fmt::format("'{}' is missing; {}", Inside(path, key.name), TypeText(key)));
  }
}

void Reader::ReadValue(const Key& key, const YamlNode& node, const std::string& path,
                       const Target& target) {
  const Field field = key.field(target);
  if (auto* list = std::get_if<std::vector<std::string>*>(&field)) {
    if (key.type == KeyType::kHosts) return SetHosts(node, path, *list);
    return SetEndpoints(node, path, *list);
  }
  if (const auto* list = std::get_if<std::vector<int>*>(&field)) {
    return SetIntegers(key, node, path, *list);
  }
  if (node.kind != YamlNode::Kind::kScalar || node.text.empty()) {
    const char* found = node.kind == YamlNode::Kind::kScalar ? "empty" : KindText(node);
    Add(node.at, fmt::format("'{}' is {}; {}", path, found, TypeText(key)));
    return;
  }
  const Status status = SetScalar(key, node.text, field);
  if (!status.ok()) Add(node.at, fmt::format("'{}': {}", path, Message(status)));
}

Status Reader::SetScalar(const Key& key, const std::string& text, const Field& field) {
  switch (key.type) {
    case KeyType::kInteger:
      if (!key.zero.empty() && text == key.zero) {
        *std::get<int*>(field) = 0;
        return OkStatus();
      }
      return SetNumber(key, ParseInteger(text), field);
    case KeyType::kFlag:
      if (text != "true" && text != "false") {
        return InvalidArgument("'{}' is neither true nor false; one of them", text);
      }
      *std::get<bool*>(field) = text == "true";
      return OkStatus();
    case KeyType::kBytes:
      if (!key.zero.empty() && text == key.zero) {
        *std::get<int64_t*>(field) = 0;
        return OkStatus();
      }
      return SetNumber(key, ParseBytes(text), field);
    case KeyType::kDuration:
      return SetNumber(key, ParseDuration(text), field);
    case KeyType::kAddress: {
      TANDEM_ASSIGN_OR_RETURN(const Address address, ParseAddress(text));
      *std::get<AddressField>(field).host = address.host;
      *std::get<AddressField>(field).port = address.port;
      return OkStatus();
    }
    case KeyType::kChoice:
      TANDEM_RETURN_IF_ERROR(CheckChoice(key, text));
      break;
    case KeyType::kName:
      TANDEM_RETURN_IF_ERROR(CheckName(text));
      break;
    case KeyType::kHeader:
      TANDEM_RETURN_IF_ERROR(CheckHeaderName(text));
      break;
    case KeyType::kFile:
    case KeyType::kNewFile:
    case KeyType::kFolder:
      return SetFile(key, text, std::get<std::string*>(field));
    case KeyType::kText:
    case KeyType::kEndpoints:
    case KeyType::kHosts:
    case KeyType::kIntegers:
      break;
  }
  *std::get<std::string*>(field) = text;
  return OkStatus();
}

Status Reader::SetNumber(const Key& key, StatusOr<int64_t> number, const Field& field) {
  if (!number.ok()) {
    const std::string wrong(Message(number.status()));
    if (wrong.find(';') != std::string::npos) return number.status();
    return InvalidArgument("{}; {}", wrong, TypeText(key));
  }
  if (*number < key.min || *number > key.max) {
    const bool bytes = key.type == KeyType::kBytes;
    const bool duration = key.type == KeyType::kDuration;
    return InvalidArgument("{} is out of range; {}",
                           bytes      ? FormatBytes(*number)
                           : duration ? FormatDuration(*number)
                                      : fmt::format("{}", *number),
                           TypeText(key));
  }
  if (*number % key.multiple != 0) {
    return InvalidArgument("{} does not fit; {}", *number, TypeText(key));
  }
  if (const auto* narrow = std::get_if<int*>(&field)) {
    **narrow = static_cast<int>(*number);
  } else {
    *std::get<int64_t*>(field) = *number;
  }
  return OkStatus();
}

Status Reader::SetFile(const Key& key, const std::string& text, std::string* field) {
  *field = ResolvePath(cluster_->file, text);
  if (key.type == KeyType::kFolder) {
    if (field->size() <= kMaxRuntimeDir) return OkStatus();
    return InvalidArgument(
        "'{}' has {} characters; at most {}, because it becomes part of the "
        "path of a socket",
        *field, field->size(), kMaxRuntimeDir);
  }
  if (key.type == KeyType::kNewFile) return OkStatus();
  const bool replaced = key.section == "models" && !model_given_.empty();
  if (!check_files_ || replaced) return OkStatus();
  return key.section == "models" ? CheckModel(*field) : CheckFile(*field);
}

void Reader::SetEndpoints(const YamlNode& node, const std::string& path,
                          std::vector<std::string>* field) {
  if (node.kind != YamlNode::Kind::kList || node.items.empty() || node.items.size() > kMaxRouters) {
    Add(node.at,
        fmt::format("'{}' is {}; a list of 1 to {} endpoints like tcp://192.168.1.5:8100", path,
                    node.kind == YamlNode::Kind::kList
                        ? fmt::format("a list of {}", node.items.size())
                        : KindText(node),
                    kMaxRouters));
    return;
  }
  field->clear();
  for (const YamlNode& item : node.items) {
    const std::string place = fmt::format("{}[{}]", path, field->size());
    const Status status = CheckEndpoint(item.text);
    if (!status.ok()) Add(item.at, fmt::format("'{}': {}", place, Message(status)));
    if (std::find(field->begin(), field->end(), item.text) != field->end()) {
      Add(item.at, fmt::format("'{}': '{}' stands in the list twice; an endpoint for each router",
                               place, item.text));
    }
    field->push_back(item.text);
  }
}

void Reader::Add(Position at, std::string message) {
  problems_.push_back({at, std::move(message)});
}

}  // namespace tandem::config

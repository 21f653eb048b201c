// The half of Reader that looks at what one part of the file says of another.
#include <filesystem>

#include "common/config/reader.h"
#include "common/config/values.h"

namespace tandem::config {
namespace {

// The entry that `path`[i] was read from; `root` itself when the file has no such list.
const YamlNode& EntryOf(const YamlNode& root, std::string_view list, size_t i) {
  const YamlNode* node = FindValue(root, list);
  return node != nullptr && node->kind == YamlNode::Kind::kList && i < node->items.size()
             ? node->items[i]
             : root;
}

// A file's name less its ending; a folder's whole, which may have dots as well: Qwen2.5-0.5B.
std::string NameOfModel(const std::string& path) {
  const std::filesystem::path at(path);
  std::error_code error;
  if (!std::filesystem::is_directory(at, error)) return at.stem();
  return at.has_filename() ? at.filename() : at.parent_path().filename();
}

Position PlaceOf(const YamlNode& map, std::string_view name) {
  const YamlNode* value = FindValue(map, name);
  return value != nullptr ? value->at : map.at;
}

std::vector<std::string> NamesOf(const std::vector<Model>& models) {
  std::vector<std::string> names;
  names.reserve(models.size());
  for (const Model& model : models) names.push_back(model.name);
  return names;
}

}  // namespace

void Reader::Resolve(const YamlNode& root) {
  if (!ResolveModels(root)) return;
  for (size_t i = 0; i < cluster_->groups.size(); ++i) {
    ResolveGroup(EntryOf(root, "groups", i), fmt::format("groups[{}]", i), &cluster_->groups[i]);
  }
  for (size_t i = 0; i < cluster_->aliases.size(); ++i) {
    ResolveAlias(EntryOf(root, "aliases", i), fmt::format("aliases[{}]", i), cluster_->aliases[i]);
  }
}

bool Reader::ResolveModels(const YamlNode& root) {
  std::vector<Model>& models = cluster_->models;
  const YamlNode* single = FindValue(root, "model");
  if (single != nullptr && FindValue(root, "models") != nullptr) {
    Add(single->at,
        "'model' and 'models' are both here; 'model' is short for a list of one, so "
        "keep 'models'");
    return false;
  }
  if (!model_given_.empty()) {
    if (models.empty()) models.emplace_back();
    if (models.size() > 1) {
      Add(PlaceOf(root, "models"),
          fmt::format("'models' has {} entries, and --model stands for a single one; leave it out",
                      models.size()));
    } else {
      models[0].path = model_given_;
    }
  }
  for (size_t i = 0; i < models.size(); ++i) {
    Model& model = models[i];
    if (model.name.empty()) model.name = NameOfModel(model.path);
    for (size_t other = 0; other < i && !model.name.empty(); ++other) {
      if (models[other].name != model.name) continue;
      const YamlNode& entry = EntryOf(root, "models", i);
      Add(PlaceOf(entry, FindValue(entry, "name") != nullptr ? "name" : "path"),
          fmt::format("'models[{}].name' is '{}', as another model's; a name of its own", i,
                      model.name));
      break;
    }
  }
  return true;
}

void Reader::RequireModel(const std::string& name, Position at, const std::string& path) {
  if (name.empty() || cluster_->FindModel(name) != nullptr) return;
  const std::vector<std::string> names = NamesOf(cluster_->models);
  const std::string nearest = Nearest(name, names);
  Add(at,
      nearest.empty()
          ? fmt::format("'{}': there is no model '{}'; known are {}", path, name, Join(names, ", "))
          : fmt::format("'{}': there is no model '{}'; did you mean '{}'?", path, name, nearest));
}

void Reader::ResolveGroup(const YamlNode& node, const std::string& path, Group* group) {
  const std::vector<Model>& models = cluster_->models;
  if (models.empty() || node.kind != YamlNode::Kind::kMap) return;
  if (FindValue(node, "model") != nullptr) {
    RequireModel(group->model, PlaceOf(node, "model"), path + ".model");
  } else if (models.size() == 1) {
    group->model = models[0].name;
  } else {
    Add(node.at, fmt::format("'{}.model' is missing, and there are several; one of {}", path,
                             Join(NamesOf(models), ", ")));
  }
}

void Reader::ResolveAlias(const YamlNode& node, const std::string& path, const Alias& alias) {
  if (node.kind != YamlNode::Kind::kMap) return;
  const Position name_at = PlaceOf(node, "name");
  if (cluster_->FindModel(alias.name) != nullptr) {
    Add(name_at,
        fmt::format("'{}.name' is '{}', as a model's; a name of its own", path, alias.name));
  }
  for (const Alias& other : cluster_->aliases) {
    if (&other == &alias || alias.name.empty()) break;
    if (other.name != alias.name) continue;
    Add(name_at,
        fmt::format("'{}.name' is '{}', as another alias's; a name of its own", path, alias.name));
    break;
  }
  const YamlNode* choices = FindValue(node, "choices");
  for (size_t i = 0; i < alias.choices.size(); ++i) {
    const bool listed = choices != nullptr && i < choices->items.size();
    RequireModel(alias.choices[i].model, PlaceOf(listed ? choices->items[i] : node, "model"),
                 listed ? fmt::format("{}.choices[{}].model", path, i) : path + ".model");
  }
}

}  // namespace tandem::config

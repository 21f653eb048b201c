// What is wrong with a YAML file, and how it is said: shared by the readers of cluster files and of
// device profiles.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/config/yaml_tree.h"
#include "common/status.h"

namespace tandem::config {

struct Problem {
  Position at;
  std::string message;  // what is wrong; what would be right
  auto operator<=>(const Problem&) const = default;
};

// kInvalidArgument: every problem in its own line, `file:line:column: message`.
Status Report(const std::string& file, const std::vector<Problem>& problems);

// "a list": what a node is instead of what was wanted.
const char* KindText(const YamlNode& node);

// `where`: "at the top", "in groups[0]".
std::string UnknownKey(const std::string& name, const std::string& where,
                       const std::vector<std::string>& known);

// The value of a key; null: it is not there, or `map` is no map.
const YamlNode* FindValue(const YamlNode& map, std::string_view name);

// The whole text, or one byte more than ParseYaml takes. `what`: "a cluster file, like
// configs/quickstart.yaml".
StatusOr<std::string> ReadYamlFile(const std::string& path, std::string_view what);

}  // namespace tandem::config

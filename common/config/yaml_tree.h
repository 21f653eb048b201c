// A YAML document as a plain tree with positions: the one place that knows yaml-cpp, whose
// exceptions end here. Bounded: files beyond 256 KiB, 32 levels or 20,000 values (aliases counted
// as often as they are used) are refused.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace tandem::config {

struct Position {
  int line = 1;
  int column = 1;
  auto operator<=>(const Position&) const = default;
};

struct YamlNode {
  enum class Kind { kNothing, kScalar, kList, kMap };
  Kind kind = Kind::kNothing;
  Position at;
  std::string text;             // kScalar
  std::vector<YamlNode> items;  // kList; kMap: key, value, key, value, in the file's order
};

// What makes a text no single YAML document, and where.
struct YamlError {
  Position at;
  std::string message;
};

// False: `error` says why, `root` is empty. A repeated key of a map stays, for the reader to name.
bool ParseYaml(const std::string& text, YamlNode* root, YamlError* error);

}  // namespace tandem::config

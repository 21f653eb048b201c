#include "common/config/yaml_tree.h"

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <exception>

namespace tandem::config {
namespace {

constexpr size_t kMaxFileBytes = 256 << 10;
constexpr int kMaxDepth = 32;
constexpr int kMaxValues = 20'000;

Position At(const YAML::Mark& mark) {
  if (mark.is_null()) return {};
  return {mark.line + 1, mark.column + 1};
}

// Copies yaml-cpp's graph into a tree. An alias is copied where it is used, so the limits also
// stop documents that expand without end.
class Copier {
 public:
  explicit Copier(YamlError* error) : error_(error) {}

  bool Copy(const YAML::Node& from, int depth, YamlNode* to) {
    to->at = At(from.Mark());
    if (++values_ > kMaxValues) {
      return Fail(to->at, fmt::format("more than {} values once aliases are written out; a cluster "
                                      "file has a few hundred",
                                      kMaxValues));
    }
    if (depth > kMaxDepth) {
      return Fail(to->at,
                  fmt::format("nested deeper than {} levels; a cluster file has four", kMaxDepth));
    }
    switch (from.Type()) {
      case YAML::NodeType::Scalar:
        to->kind = YamlNode::Kind::kScalar;
        to->text = from.Scalar();
        return true;
      case YAML::NodeType::Sequence:
        to->kind = YamlNode::Kind::kList;
        return CopyItems(from, depth, to);
      case YAML::NodeType::Map:
        to->kind = YamlNode::Kind::kMap;
        return CopyPairs(from, depth, to);
      default:
        return true;
    }
  }

 private:
  bool CopyItems(const YAML::Node& from, int depth, YamlNode* to) {
    for (const YAML::Node& item : from) {
      if (!Copy(item, depth + 1, &to->items.emplace_back())) return false;
    }
    return true;
  }

  bool CopyPairs(const YAML::Node& from, int depth, YamlNode* to) {
    for (const auto& pair : from) {
      if (!Copy(pair.first, depth + 1, &to->items.emplace_back())) return false;
      const Position key = to->items.back().at;
      YamlNode& value = to->items.emplace_back();
      if (!Copy(pair.second, depth + 1, &value)) return false;
      // yaml-cpp puts a value that is absent on the line after.
      if (value.kind == YamlNode::Kind::kNothing) value.at = key;
    }
    return true;
  }

  bool Fail(Position at, std::string message) {
    *error_ = {at, std::move(message)};
    return false;
  }

  YamlError* error_;
  int values_ = 0;
};

bool ParseOrThrow(const std::string& text, YamlNode* root, YamlError* error) {
  const std::vector<YAML::Node> documents = YAML::LoadAll(text);
  if (documents.empty()) return true;
  if (documents.size() > 1) {
    *error = {At(documents[1].Mark()), "a second document ('---'); a cluster file is one document"};
    return false;
  }
  YamlNode copy;
  if (!Copier(error).Copy(documents[0], 0, &copy)) return false;
  *root = std::move(copy);
  return true;
}

}  // namespace

bool ParseYaml(const std::string& text, YamlNode* root, YamlError* error) {
  *root = {};
  if (text.size() > kMaxFileBytes) {
    *error = {{},
              fmt::format("{} bytes; a cluster file has at most {}", text.size(), kMaxFileBytes)};
    return false;
  }
  try {
    return ParseOrThrow(text, root, error);
  } catch (const YAML::Exception& e) {
    *error = {At(e.mark), fmt::format("not YAML: {}; look for indentation, quotes and brackets "
                                      "here or just above",
                                      e.msg)};
  } catch (const std::exception& e) {
    *error = {{},
              fmt::format("not readable as YAML: {}; rewrite the file as plain text", e.what())};
  }
  return false;
}

}  // namespace tandem::config

#include "common/config/problem.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>

#include "common/config/values.h"

namespace tandem::config {
namespace {

constexpr size_t kMaxProblems = 100;
constexpr size_t kReadAtMost = (256 << 10) + 1;  // one byte more than ParseYaml takes

std::string OneLine(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Status Report(const std::string& file, const std::vector<Problem>& problems) {
  std::string lines;
  for (size_t i = 0; i < problems.size() && i < kMaxProblems; ++i) {
    const Problem& problem = problems[i];
    fmt::format_to(std::back_inserter(lines), "{}{}:{}:{}: {}", i == 0 ? "" : "\n", file,
                   problem.at.line, problem.at.column, OneLine(problem.message));
  }
  if (problems.size() > kMaxProblems) {
    fmt::format_to(std::back_inserter(lines), "\n{}: and {} more mistakes; mend these first", file,
                   problems.size() - kMaxProblems);
  }
  return InvalidArgument("{}", lines);
}

const char* KindText(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::kNothing:
      return "nothing";
    case YamlNode::Kind::kScalar:
      return "a single value";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map of keys";
  }
  return "";
}

std::string UnknownKey(const std::string& name, const std::string& where,
                       const std::vector<std::string>& known) {
  const std::string nearest = Nearest(name, known);
  if (!nearest.empty()) {
    return fmt::format("unknown key '{}' {}; did you mean '{}'?", name, where, nearest);
  }
  return fmt::format("unknown key '{}' {}; known are {}", name, where, Join(known, ", "));
}

const YamlNode* FindValue(const YamlNode& map, std::string_view name) {
  if (map.kind != YamlNode::Kind::kMap) return nullptr;
  for (size_t i = 0; i + 1 < map.items.size(); i += 2) {
    if (map.items[i].text == name) return &map.items[i + 1];
  }
  return nullptr;
}

StatusOr<std::string> ReadYamlFile(const std::string& path, std::string_view what) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "re"), &std::fclose);
  std::string text(kReadAtMost, '\0');
  if (file != nullptr) {
    errno = 0;
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  }
  if (file == nullptr || std::ferror(file.get()) != 0) {
    return InvalidArgument("{}:1:1: cannot be read: {}; give the path of {}", path,
                           std::strerror(errno), what);
  }
  return text;
}

}  // namespace tandem::config

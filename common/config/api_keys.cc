#include "common/config/api_keys.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace tandem::config {
namespace {

bool IsKeyCharacter(char c) { return c > ' ' && c < 0x7f; }

}  // namespace

std::string_view TrimApiKey(std::string_view s) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
  while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
  return s;
}

StatusOr<std::vector<std::string>> ReadApiKeys(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return InvalidArgument("{}:1: the API key file cannot be read; check the path and permissions",
                           path);
  }
  std::ostringstream text;
  text << file.rdbuf();
  return ParseApiKeys(text.str(), path);
}

StatusOr<std::vector<std::string>> ParseApiKeys(std::string_view text, const std::string& path) {
  std::vector<std::string> keys;
  int line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view key = TrimApiKey(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (key.empty() || key.front() == '#') continue;
    if (!std::all_of(key.begin(), key.end(), IsKeyCharacter)) {
      return InvalidArgument("{}:{}: an API key has no spaces and is plain ASCII; one key a line",
                             path, line);
    }
    keys.emplace_back(key);
  }
  if (keys.empty()) {
    return InvalidArgument("{}:{}: no API key here; add one a line, or leave api_keys_file out",
                           path, std::max(line, 1));
  }
  return keys;
}

Status CheckApiKeys(const Cluster& cluster) {
  const std::string& path = cluster.router.api_keys_file;
  return path.empty() ? OkStatus() : ReadApiKeys(path).status();
}

}  // namespace tandem::config

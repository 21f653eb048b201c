// Reads the golden data of tests/golden/data.
#pragma once

#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"

namespace tandem::text {

// \xHH is a byte, all else is itself.
inline std::string Unescape(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      bytes.push_back(text[i]);
      continue;
    }
    int byte = 0;
    std::from_chars(text.data() + i + 2, text.data() + i + 4, byte, 16);
    bytes.push_back(static_cast<char>(byte));
    i += 3;
  }
  return bytes;
}

inline std::string ReadGoldenFile(const std::string& name) {
  std::ifstream file("tests/golden/data/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline std::vector<std::string> ReadGoldenLines(const std::string& name) {
  std::vector<std::string> lines;
  std::istringstream file(ReadGoldenFile(name));
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::vector<std::string> SplitAtTabs(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) fields.push_back(field);
  return fields;
}

}  // namespace tandem::text

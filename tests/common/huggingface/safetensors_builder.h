// Writes safetensors files in memory, legal ones and others, for tests of whatever reads them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace tandem::huggingface {

// A header as it is given, padded as writers do it, and the bytes behind it.
inline std::string SafetensorsBytes(std::string header, std::string_view data) {
  while (header.size() % 8 != 0) header += ' ';
  const uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file.append(header).append(data);
}

}  // namespace tandem::huggingface

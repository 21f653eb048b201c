// GPT-2's alphabet: every byte as a printable character, so that a vocabulary is a text file.
// Printable Latin-1 stands for itself, the other bytes for U+0100 and up in order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/tokenizer/utf8.h"

namespace tandem::text {

class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
      byte_of_[printable ? byte : next++] = static_cast<int16_t>(byte);
    }
  }

  // The bytes that `token` spells; nullopt: it has other characters in it.
  std::optional<std::string> BytesOf(std::string_view token) const {
    std::string bytes;
    for (size_t at = 0; at < token.size();) {
      const CodePoint point = ReadCodePoint(token, at);
      const int byte = point.value < byte_of_.size() ? byte_of_[point.value] : -1;
      if (byte < 0) return std::nullopt;
      bytes.push_back(static_cast<char>(byte));
      at += point.size;
    }
    return bytes;
  }

 private:
  std::array<int16_t, 324> byte_of_;  // 256 + the 68 bytes that are not printable
};

}  // namespace tandem::text

// UTF-8: whether bytes are it, and making it of bytes that come in pieces. Legal is what Unicode
// calls well-formed: no overlong forms, no surrogates, nothing past U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::text {

bool IsValidUtf8(std::string_view bytes);

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

// The code point that begins at text[position], and how many bytes it has. Of what is not UTF-8,
// each byte is a character of its own: {U+FFFD, 1}. REQUIRES: position < text.size().
struct CodePoint {
  uint32_t value = 0;
  size_t size = 0;
};
CodePoint ReadCodePoint(std::string_view text, size_t position);

// The one that `text` ends with. REQUIRES: text is not empty.
CodePoint LastCodePoint(std::string_view text);

// Bytes in, valid UTF-8 out. Each longest piece that cannot become a character is one U+FFFD, as
// Python, Rust and browsers have it; the result does not depend on how the bytes were split.
class Utf8Stream {
 public:
  // Appends to `out` all characters that `bytes` complete; up to 3 bytes are held back.
  void Push(std::string_view bytes, std::string& out);
  // The bytes have ended: appends U+FFFD if some were held back.
  void Finish(std::string& out);

 private:
  bool Continues(unsigned char byte) const;
  void Start(unsigned char byte, std::string& out);

  std::string pending_;  // a proper prefix of a character
  int missing_ = 0;      // bytes that `pending_` lacks
};

}  // namespace tandem::text

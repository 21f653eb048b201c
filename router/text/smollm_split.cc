#include "router/text/smollm_split.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <span>

#include "router/text/utf8.h"

namespace tandem::text {
namespace {

enum class CharClass : uint8_t { kOther, kLetter, kDigit, kSpace };

struct CodeRange {
  uint32_t first;
  uint32_t last;
};

#include "router/text/unicode_classes.inc"

constexpr bool Contains(std::span<const CodeRange> ranges, uint32_t code) {
  const auto it = std::upper_bound(ranges.begin(), ranges.end(), code,
                                   [](uint32_t c, const CodeRange& r) { return c < r.first; });
  return it != ranges.begin() && code <= std::prev(it)->last;
}

constexpr CharClass LookUp(uint32_t code) {
  // Digits go first: they are pieces of their own before the regular expression sees the text.
  if (Contains(kDigits, code)) return CharClass::kDigit;
  if (Contains(kLetters, code)) return CharClass::kLetter;
  return Contains(kSpaces, code) ? CharClass::kSpace : CharClass::kOther;
}

// Most of most texts, and what need not be decoded.
constexpr auto kAscii = [] {
  std::array<CharClass, 0x80> table = {};
  for (uint32_t code = 0; code < table.size(); ++code) table[code] = LookUp(code);
  return table;
}();

// Classes of the basic multilingual plane, looked up once: 64 KB.
using PlaneTable = std::array<CharClass, 0x10000>;

PlaneTable MakePlaneTable() {
  PlaneTable table;
  for (uint32_t code = 0; code < table.size(); ++code) table[code] = LookUp(code);
  return table;
}

CharClass ClassOf(uint32_t code) {
  static const PlaneTable table = MakePlaneTable();
  return code < table.size() ? table[code] : LookUp(code);
}

struct Character {
  CharClass kind = CharClass::kOther;
  size_t size = 0;
};

inline Character Read(std::string_view text, size_t position) {
  const auto byte = static_cast<unsigned char>(text[position]);
  if (byte < kAscii.size()) return {kAscii[byte], 1};
  const CodePoint point = ReadCodePoint(text, position);
  return {ClassOf(point.value), point.size};
}

// The end of the characters of class `kind` that begin at `position`.
size_t RunEnd(std::string_view text, size_t position, CharClass kind) {
  while (position < text.size()) {
    const Character c = Read(text, position);
    if (c.kind != kind) break;
    position += c.size;
  }
  return position;
}

// Bytes of 's 't 're 've 'm 'll 'd at the start of `text`; 0: none of them. REQUIRES: text[0] ==
// '\''.
size_t ContractionSize(std::string_view text) {
  for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
    if (text.substr(1, ending.size()) == ending) return 1 + ending.size();
  }
  return 0;
}

// \s+(?!\S)|\s+ : white space before a word leaves its last character to the word. A digit is not
// seen here, it begins another text.
size_t SpaceEnd(std::string_view text, size_t begin) {
  size_t last = begin;  // where the last character of the run begins
  size_t end = begin;
  while (end < text.size()) {
    const Character c = Read(text, end);
    if (c.kind == CharClass::kDigit) return end;
    if (c.kind != CharClass::kSpace) return last > begin ? last : end;
    last = end;
    end += c.size;
  }
  return end;
}

}  // namespace

size_t SmolLmPieceEnd(std::string_view text, size_t begin) {
  const Character first = Read(text, begin);
  const size_t after = begin + first.size;
  if (first.kind == CharClass::kDigit) return after;
  if (text[begin] == '\'') {
    if (const size_t size = ContractionSize(text.substr(begin)); size > 0) return begin + size;
  }
  if (text[begin] == ' ' && after < text.size()) {
    const CharClass kind = Read(text, after).kind;
    if (kind == CharClass::kLetter || kind == CharClass::kOther) return RunEnd(text, after, kind);
  }
  if (first.kind == CharClass::kSpace) return SpaceEnd(text, begin);
  return RunEnd(text, after, first.kind);
}

}  // namespace tandem::text

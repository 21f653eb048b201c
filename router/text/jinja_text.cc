#include "router/text/jinja_text.h"

#include <locale.h>
#include <wctype.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

bool IsContinuation(char c) { return (c & 0xc0) == 0x80; }

// The code point that ends at `end`, and where it begins.
CodePoint ReadBackward(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && IsContinuation(text[begin])) --begin;
  const CodePoint point = ReadCodePoint(text, begin);
  if (begin + point.size == end) return point;
  return ReadCodePoint(text, end - 1);
}

template <class Goes>
std::string_view StripIf(std::string_view text, Side side, const Goes& goes) {
  size_t begin = 0, end = text.size();
  while (side != Side::kRight && begin < end) {
    const CodePoint point = ReadCodePoint(text, begin);
    if (!goes(point.value)) break;
    begin += point.size;
  }
  while (side != Side::kLeft && begin < end) {
    const CodePoint point = ReadBackward(text.substr(0, end), end);
    if (!goes(point.value)) break;
    end -= point.size;
  }
  return text.substr(begin, end - begin);
}

// The C library's tables for Unicode, which do not depend on the process's locale.
locale_t Unicode() {
  static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  return locale;
}

uint32_t ToUpper(uint32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return Unicode() == nullptr ? c : ::towupper_l(c, Unicode());
}

uint32_t ToLower(uint32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return Unicode() == nullptr ? c : ::towlower_l(c, Unicode());
}

// How many times, if a negative number says "always".
int64_t Limit(int64_t max) { return max < 0 ? std::numeric_limits<int64_t>::max() : max; }

bool IsCased(uint32_t c) { return ToUpper(c) != c || ToLower(c) != c; }

// Each character through `map`, which also learns whether the one before it was a cased letter.
template <class Map>
std::string MapCharacters(std::string_view text, const Map& map) {
  std::string out;
  out.reserve(text.size());
  bool after_letter = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    const uint32_t mapped = map(point.value, after_letter);
    if (mapped == point.value) {
      out += text.substr(at, point.size);
    } else {
      AppendUtf8(mapped, out);
    }
    after_letter = IsCased(point.value);
    at += point.size;
  }
  return out;
}

bool IsLineEnd(uint32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool Is(uint32_t c, CharClass which) {
  if (which == CharClass::kSpace) return IsPythonSpace(c);
  if (c >= 0x80 && Unicode() == nullptr) return false;
  const bool digit = c < 0x80 ? c >= '0' && c <= '9' : ::iswdigit_l(c, Unicode()) != 0;
  const bool alpha =
      c < 0x80 ? (c | 32) >= 'a' && (c | 32) <= 'z' : !digit && ::iswalpha_l(c, Unicode()) != 0;
  switch (which) {
    case CharClass::kAlpha:
      return alpha;
    case CharClass::kDigit:
      return digit;
    case CharClass::kAlnum:
      return alpha || digit;
    case CharClass::kSpace:
      break;
    case CharClass::kLower:
      return ToUpper(c) != c;
    case CharClass::kUpper:
      return ToLower(c) != c;
  }
  return false;
}

}  // namespace

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

int64_t NumCharacters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); });
}

size_t ByteOffset(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if (!IsContinuation(text[at]) && index-- == 0) break;
  }
  return at;
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out.push_back(static_cast<char>(c));
    return;
  }
  const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out.push_back(static_cast<char>(kLead[tail] | (c >> (6 * tail))));
  for (int i = tail - 1; i >= 0; --i) {
    out.push_back(static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f)));
  }
}

bool IsPythonSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
         c == 0x205f || c == 0x3000;
}

std::string_view Strip(std::string_view text, Side side) {
  return StripIf(text, side, IsPythonSpace);
}

std::string_view Strip(std::string_view text, Side side, std::string_view characters) {
  return StripIf(text, side, [&](uint32_t c) {
    for (size_t at = 0; at < characters.size();) {
      const CodePoint point = ReadCodePoint(characters, at);
      if (point.value == c) return true;
      at += point.size;
    }
    return false;
  });
}

std::string Upper(std::string_view text) {
  std::string upper = MapCharacters(text, [](uint32_t c, bool) { return ToUpper(c); });
  // The one common letter whose upper case is two.
  constexpr std::string_view kSharpS = "\xc3\x9f";
  if (FindText(upper, kSharpS) == std::string_view::npos) return upper;
  return ReplaceText(upper, kSharpS, "SS", -1);
}

std::string Lower(std::string_view text) {
  return MapCharacters(text, [](uint32_t c, bool) { return ToLower(c); });
}

std::string Capitalize(std::string_view text) {
  bool first = true;
  return MapCharacters(text, [&](uint32_t c, bool) {
    return std::exchange(first, false) ? ToUpper(c) : ToLower(c);
  });
}

std::string TitleMethod(std::string_view text) {
  return MapCharacters(text,
                       [](uint32_t c, bool inside) { return inside ? ToLower(c) : ToUpper(c); });
}

std::string TitleFilter(std::string_view text) {
  bool starts = true;
  return MapCharacters(text, [&](uint32_t c, bool) {
    const bool splits =
        IsPythonSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
    const bool first = std::exchange(starts, splits) && !splits;
    return first ? ToUpper(c) : ToLower(c);
  });
}

bool IsAll(std::string_view text, CharClass which) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    at += point.size;
    if (Is(point.value, which)) {
      any = true;
    } else if ((which != CharClass::kLower && which != CharClass::kUpper) || IsCased(point.value)) {
      return false;
    }
  }
  return any;
}

// memmem takes linear time, which std::string_view::find does not.
size_t FindText(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  const void* found =
      ::memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t max) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  for (max = Limit(max); max > 0; --max) {
    const size_t end = FindText(text, separator, begin);
    if (end == std::string_view::npos) break;
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> SplitAtFromRight(std::string_view text, std::string_view separator,
                                               int64_t max) {
  // The separators themselves must be found from the right: "aaa" has "aa" at 1.
  std::string reversed(text.rbegin(), text.rend());
  const std::string needle(separator.rbegin(), separator.rend());
  std::vector<std::string_view> parts;
  for (const std::string_view part : SplitAt(reversed, needle, max)) {
    const size_t end = text.size() - static_cast<size_t>(part.data() - reversed.data());
    parts.push_back(text.substr(end - part.size(), part.size()));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitSpace(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  text = Strip(text, Side::kLeft);
  for (max = Limit(max); !text.empty(); --max) {
    size_t end = 0;
    while (end < text.size()) {
      const CodePoint point = ReadCodePoint(text, end);
      if (IsPythonSpace(point.value)) break;
      end += point.size;
    }
    if (max == 0) end = text.size();
    parts.push_back(text.substr(0, end));
    text = Strip(text.substr(end), Side::kLeft);
  }
  return parts;
}

std::vector<std::string_view> SplitSpaceFromRight(std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  text = Strip(text, Side::kRight);
  for (max = Limit(max); !text.empty(); --max) {
    size_t begin = text.size();
    while (begin > 0) {
      const CodePoint point = ReadBackward(text.substr(0, begin), begin);
      if (IsPythonSpace(point.value)) break;
      begin -= point.size;
    }
    if (max == 0) begin = 0;
    parts.push_back(text.substr(begin));
    text = Strip(text.substr(0, begin), Side::kRight);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = ReadCodePoint(text, at);
    const size_t end = at;
    at += point.size;
    if (!IsLineEnd(point.value)) continue;
    if (point.value == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

int64_t CountText(std::string_view text, std::string_view needle) {
  if (needle.empty()) return NumCharacters(text) + 1;
  int64_t count = 0;
  for (size_t at = 0; (at = FindText(text, needle, at)) != std::string_view::npos; ++count) {
    at += needle.size();
  }
  return count;
}

std::string ReplaceText(std::string_view text, std::string_view old, std::string_view replacement,
                        int64_t max) {
  std::string out;
  size_t begin = 0;
  for (max = Limit(max); max > 0; --max) {
    // The empty text is found before each character and at the end.
    const size_t found = FindText(text, old, begin);
    if (found == std::string_view::npos) break;
    out += text.substr(begin, found - begin);
    out += replacement;
    begin = found + old.size();
    if (!old.empty()) continue;
    if (begin >= text.size()) return out;
    const size_t size = ReadCodePoint(text, begin).size;
    out += text.substr(begin, size);
    begin += size;
  }
  out += text.substr(begin);
  return out;
}

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    constexpr std::string_view kSpecial = "&<>'\"";
    constexpr std::string_view kEscapes[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    const size_t which = kSpecial.find(c);
    if (which == std::string_view::npos) {
      out.push_back(c);
    } else {
      out += kEscapes[which];
    }
  }
  return out;
}

}  // namespace tandem::text

// Python's string functions, over UTF-8. Positions and lengths count characters.
// Thread: pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::text {

bool IsAscii(std::string_view text);
int64_t NumCharacters(std::string_view text);
// Where character `index` begins, in bytes; text.size() past the end. REQUIRES: index >= 0.
size_t ByteOffset(std::string_view text, int64_t index);
void AppendUtf8(uint32_t code_point, std::string& out);

enum class Side : uint8_t { kBoth, kLeft, kRight };
// str.strip() and its like: takes away white space, or any of `characters`.
std::string_view Strip(std::string_view text, Side side);
std::string_view Strip(std::string_view text, Side side, std::string_view characters);
bool IsPythonSpace(uint32_t code_point);

// Simple case mappings (one character to one, but for the upper case of U+00DF), by the C library's
// Unicode tables.
std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Capitalize(std::string_view text);
std::string TitleMethod(std::string_view text);  // str.title()
std::string TitleFilter(std::string_view text);  // Jinja's filter, which differs
enum class CharClass : uint8_t { kAlpha, kDigit, kAlnum, kSpace, kLower, kUpper };
bool IsAll(std::string_view text, CharClass which);  // str.isalpha() and its like

// In bytes from `from`; npos: not there. Linear whatever the texts are.
size_t FindText(std::string_view text, std::string_view needle, size_t from = 0);
std::vector<std::string_view> SplitAt(std::string_view text, std::string_view separator,
                                      int64_t max);  // max < 0: all
std::vector<std::string_view> SplitAtFromRight(std::string_view text, std::string_view separator,
                                               int64_t max);
std::vector<std::string_view> SplitSpace(std::string_view text, int64_t max);
std::vector<std::string_view> SplitSpaceFromRight(std::string_view text, int64_t max);
std::vector<std::string_view> SplitLines(std::string_view text, bool keep_ends);
// How many times `needle` is in `text`, without overlaps; of the empty one, as Python counts.
int64_t CountText(std::string_view text, std::string_view needle);
// REQUIRES: the result's size is acceptable: see CountText. max < 0: all.
std::string ReplaceText(std::string_view text, std::string_view old, std::string_view replacement,
                        int64_t max);
std::string EscapeHtml(std::string_view text);  // as markupsafe

}  // namespace tandem::text

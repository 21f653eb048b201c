#include "router/text/special_tokens.h"

#include <algorithm>

namespace tandem::text {
namespace {

// The byte of `token` at `depth`, or -1 past its end: a prefix sorts before what it begins.
int ByteAt(const std::string& token, size_t depth) {
  return depth < token.size() ? static_cast<unsigned char>(token[depth]) : -1;
}

}  // namespace

SpecialTokens::SpecialTokens(std::vector<std::pair<std::string, TokenId>> tokens)
    : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end());
  for (const auto& [text, id] : tokens_) begins_[static_cast<unsigned char>(text[0])] = true;
}

SpecialTokens::Match SpecialTokens::Find(std::string_view text, size_t from) const {
  if (tokens_.empty()) return {text.size(), 0, -1};
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    if (const Match match = MatchAt(text, begin); match.size > 0) return match;
  }
  return {text.size(), 0, -1};
}

// Narrows the sorted tokens byte by byte to those that agree with the text so far.
SpecialTokens::Match SpecialTokens::MatchAt(std::string_view text, size_t begin) const {
  Match match = {begin, 0, -1};
  auto low = tokens_.begin();
  auto high = tokens_.end();
  for (size_t depth = 0; begin + depth < text.size(); ++depth) {
    const int byte = static_cast<unsigned char>(text[begin + depth]);
    low = std::partition_point(
        low, high, [&](const auto& token) { return ByteAt(token.first, depth) < byte; });
    high = std::partition_point(
        low, high, [&](const auto& token) { return ByteAt(token.first, depth) == byte; });
    if (low == high) break;
    if (low->first.size() == depth + 1) match = {begin, depth + 1, low->second};
  }
  return match;
}

}  // namespace tandem::text

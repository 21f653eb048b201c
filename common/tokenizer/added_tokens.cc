#include "common/tokenizer/added_tokens.h"

#include <algorithm>

#include "common/tokenizer/code_set.h"
#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

// The byte of `token` at `depth`, or -1 past its end: a prefix sorts before what it begins.
int ByteAt(const std::string& token, size_t depth) {
  return depth < token.size() ? static_cast<unsigned char>(token[depth]) : -1;
}

bool IsSpace(uint32_t code) {
  static const CodeSet spaces = CodeSet::Space();
  return spaces.Contains(code);
}

bool IsWord(uint32_t code) {
  static const CodeSet word = CodeSet::Word();
  return word.Contains(code);
}

bool IsAlone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && IsWord(LastCodePoint(text.substr(0, begin)).value)) return false;
  return end == text.size() || !IsWord(ReadCodePoint(text, end).value);
}

size_t SpaceBegin(std::string_view text, size_t from, size_t end) {
  while (end > from) {
    const CodePoint point = LastCodePoint(text.substr(from, end - from));
    if (!IsSpace(point.value)) break;
    end -= point.size;
  }
  return end;
}

size_t SpaceEnd(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint point = ReadCodePoint(text, at);
    if (!IsSpace(point.value)) break;
    at += point.size;
  }
  return at;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const auto& a, const auto& b) { return a.text < b.text; });
  for (const AddedToken& token : tokens_) {
    begins_[static_cast<unsigned char>(token.text[0])] = true;
  }
}

AddedTokens::Match AddedTokens::Find(std::string_view text, size_t from, size_t taken,
                                     bool with_special) const {
  for (size_t begin = from; begin < text.size() && !tokens_.empty(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    const AddedToken* token = MatchAt(text, begin);
    if (token == nullptr) continue;
    const size_t end = begin + token->text.size();
    if ((token->special && !with_special) || (token->single_word && !IsAlone(text, begin, end))) {
      begin = end - 1;
      continue;
    }
    return {token->lstrip ? SpaceBegin(text, std::min(taken, begin), begin) : begin,
            token->rstrip ? SpaceEnd(text, end) : end, token->id, end};
  }
  return {text.size(), text.size(), -1, text.size()};
}

// Narrows the sorted tokens byte by byte to those that agree with the text so far.
const AddedToken* AddedTokens::MatchAt(std::string_view text, size_t begin) const {
  const AddedToken* match = nullptr;
  auto low = tokens_.begin();
  auto high = tokens_.end();
  for (size_t depth = 0; begin + depth < text.size(); ++depth) {
    const int byte = static_cast<unsigned char>(text[begin + depth]);
    low = std::partition_point(low, high,
                               [&](const auto& token) { return ByteAt(token.text, depth) < byte; });
    high = std::partition_point(
        low, high, [&](const auto& token) { return ByteAt(token.text, depth) == byte; });
    if (low == high) break;
    if (low->text.size() == depth + 1) match = &*low;
  }
  return match;
}

}  // namespace tandem::text

#include "router/text/call_head.h"

#include "router/text/reply_syntax.h"

namespace tandem::text {
namespace {

constexpr size_t kMore = std::string_view::npos;
constexpr size_t kWrong = kMore - 1;

bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-' || c == '.';
}

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size() && IsSpace(text[at])) ++at;
  return at;
}

// Behind the string that begins at `at`.
size_t SkipString(std::string_view text, size_t at) {
  if (at >= text.size()) return kMore;
  if (text[at] != '"') return kWrong;
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\') {
      ++at;
    } else if (text[at] == '"') {
      return at + 1;
    }
  }
  return kMore;
}

// Behind the object or list that begins at `at`: by its braces only.
size_t SkipNested(std::string_view text, size_t at) {
  int depth = 0;
  while (at < text.size()) {
    const char c = text[at];
    if (c == '"') {
      at = SkipString(text, at);
      if (at == kMore) return kMore;
      continue;
    }
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    ++at;
    if (depth == 0) return at;
  }
  return kMore;
}

size_t SkipValue(std::string_view text, size_t at) {
  if (at >= text.size()) return kMore;
  if (text[at] == '"') return SkipString(text, at);
  if (text[at] == '{' || text[at] == '[') return SkipNested(text, at);
  const size_t begin = at;
  while (at < text.size() && (IsNameChar(text[at]) || text[at] == '+')) ++at;
  if (at == text.size()) return kMore;
  return at == begin ? kWrong : at;
}

// Behind `"key":` and white space.
size_t SkipKey(std::string_view text, size_t at, std::string_view& key) {
  const size_t end = SkipString(text, at);
  if (end == kMore || end == kWrong) return end;
  key = text.substr(at + 1, end - at - 2);
  at = SkipSpace(text, end);
  if (at == text.size()) return kMore;
  if (text[at] != ':') return kWrong;
  at = SkipSpace(text, at + 1);
  return at == text.size() ? kMore : at;
}

CallHead Answer(size_t at) {
  CallHead head;
  head.kind = at == kMore ? CallHead::Kind::kMore : CallHead::Kind::kNone;
  return head;
}

// The object that begins at `at`.
CallHead ReadObject(std::string_view text, size_t at) {
  CallHead head;
  bool has_name = false;
  for (++at;; ++at) {  // behind the brace, or a comma
    at = SkipSpace(text, at);
    if (at == text.size()) return Answer(kMore);
    std::string_view key;
    at = SkipKey(text, at, key);
    if (at == kMore || at == kWrong) return Answer(at);
    const bool is_arguments = key == "arguments" || key == "parameters";
    if (is_arguments && text[at] == '{' && has_name) {
      head.kind = CallHead::Kind::kCall;
      head.end = at;
      return head;
    }
    const size_t end = SkipValue(text, at);
    if (end == kMore || end == kWrong) return Answer(end);
    const std::string_view value = text.substr(at, end - at);
    if (is_arguments) {
      if (value[0] != '{' && value != "null") return Answer(kWrong);
      head.arguments = value[0] == '{' ? value : "{}";
    } else if (key == "name") {
      if (value.size() < 3 || value[0] != '"' || value.find('\\') != value.npos) {
        return Answer(kWrong);
      }
      head.name = value.substr(1, value.size() - 2);
      has_name = true;
    }
    at = SkipSpace(text, end);
    if (at == text.size()) return Answer(kMore);
    if (text[at] == ',') continue;
    if (text[at] != '}' || !has_name) return Answer(kWrong);
    head.kind = CallHead::Kind::kCall;
    head.whole = true;
    head.end = at + 1;
    return head;
  }
}

// Skips `mark` if it is there; kMore: it may be.
size_t SkipMark(std::string_view text, size_t at, std::string_view mark) {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with(mark)) return at + mark.size();
  return mark.starts_with(rest) ? kMore : at;
}

size_t SkipName(std::string_view text, size_t at) {
  while (at < text.size() && IsNameChar(text[at])) ++at;
  return at == text.size() ? kMore : at;
}

CallHead ReadNamed(std::string_view text, size_t at) {
  size_t end = SkipName(text, at);
  if (end == kMore) return Answer(kMore);
  CallHead head;
  head.name = text.substr(at, end - at);
  head.in_object = false;
  const size_t id = SkipMark(text, end, kCallIdMark);
  if (id == kMore) return Answer(kMore);
  if (id != end) end = SkipName(text, id);
  if (end == kMore) return Answer(kMore);
  end = SkipMark(text, end, kArgumentsMark);
  if (end != kMore) end = SkipSpace(text, end);
  if (end == kMore || end == text.size()) return Answer(kMore);
  if (text[end] != '{') return Answer(kWrong);
  head.kind = CallHead::Kind::kCall;
  head.end = end;
  return head;
}

}  // namespace

size_t SpaceSize(std::string_view text) { return SkipSpace(text, 0); }

CallHead ReadCallHead(std::string_view text, bool named) {
  size_t at = SkipSpace(text, 0);
  if (at == text.size()) return Answer(kMore);
  if (named && IsNameChar(text[at])) return ReadNamed(text, at);
  const bool in_list = text[at] == '[';
  if (in_list) {
    at = SkipSpace(text, at + 1);
    if (at == text.size()) return Answer(kMore);
  }
  if (text[at] != '{') return Answer(kWrong);
  CallHead head = ReadObject(text, at);
  head.in_list = in_list;
  return head;
}

size_t CallTailSize(std::string_view text) {
  size_t at = SkipSpace(text, 0);
  while (at < text.size() && text[at] == ',') {
    std::string_view key;
    at = SkipSpace(text, at + 1);
    at = at == text.size() ? kMore : SkipKey(text, at, key);
    if (at != kMore && at != kWrong) at = SkipValue(text, at);
    if (at == kMore) return kMore;
    if (at == kWrong) return 0;
    at = SkipSpace(text, at);
  }
  if (at == text.size()) return kMore;
  return text[at] == '}' ? at + 1 : 0;
}

}  // namespace tandem::text

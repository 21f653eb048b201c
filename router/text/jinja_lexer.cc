#include "router/text/jinja_lexer.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Kind = JinjaToken::Kind;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c); }

// As Jinja: all line ends become \n, and one at the very end is dropped.
std::string Normalized(std::string_view source) {
  std::string text;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    text.push_back(source[i] == '\r' ? '\n' : source[i]);
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  StatusOr<std::vector<JinjaToken>> Run() {
    while (at_ < source_.size()) TANDEM_RETURN_IF_ERROR(ReadDataAndTag());
    Add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  Status ReadDataAndTag();
  void AddData(std::string_view data, char tag, char sign);
  Status SkipComment();
  Status ReadTag(char bracket);
  bool ReadTagEnd(char bracket);
  size_t RawBeginSize() const;
  Status ReadRaw();
  bool ReadRawEnd(size_t begin);
  Status ReadToken();
  Status ReadString();
  Status ReadEscape(size_t& i, std::string& value) const;
  Status ReadCodePoint(size_t& i, size_t digits, std::string& value) const;
  Status ReadNumber();
  Status ReadOperator();
  Status Balance(char bracket);

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  void Advance(size_t count) {
    const auto begin = source_.begin() + static_cast<std::ptrdiff_t>(at_);
    line_ += static_cast<int>(std::count(begin, begin + static_cast<std::ptrdiff_t>(count), '\n'));
    at_ += count;
  }
  void SkipWhiteSpace() { Advance(rest().size() - Strip(rest(), Side::kLeft).size()); }
  void SkipNewline() {
    if (rest().starts_with('\n')) Advance(1);
  }
  void Add(Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  Status Error(std::string_view what) const {
    return InvalidArgument("chat template, line {}: {}", line_, what);
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;  // the tag before ended with a newline that was dropped
  std::string brackets_;       // open ones: "}}" inside of {...} ends no tag
  std::vector<JinjaToken> tokens_;
};

// Text up to the next {% {{ or {#, then that tag.
Status Lexer::ReadDataAndTag() {
  size_t begin = at_;
  do {
    begin = source_.find('{', begin);
    if (begin == std::string::npos || begin + 1 == source_.size()) begin = source_.size();
  } while (begin < source_.size() &&
           std::string_view("%{#").find(source_[begin + 1]) == std::string_view::npos && ++begin);
  const std::string_view data = rest().substr(0, begin - at_);
  if (begin == source_.size()) {
    Add(Kind::kData, data);
    Advance(data.size());
    return OkStatus();
  }
  const char bracket = source_[begin + 1];
  const char sign = begin + 2 < source_.size() ? source_[begin + 2] : ' ';
  AddData(data, bracket, sign);
  Advance(data.size());
  if (const size_t raw = bracket == '%' ? RawBeginSize() : 0; raw > 0) {
    Advance(raw);
    return ReadRaw();
  }
  Advance(2 + (sign == '-' || sign == '+' ? 1 : 0));
  return bracket == '#' ? SkipComment() : ReadTag(bracket);
}

// `data` without the white space that the tag behind it takes away.
void Lexer::AddData(std::string_view data, char tag, char sign) {
  if (sign == '-') {
    data = Strip(data, Side::kRight);
  } else if (sign != '+' && tag != '{') {
    const size_t line = data.rfind('\n') + 1;  // 0: none
    const bool blank = Strip(data.substr(line), Side::kLeft).empty();
    if (blank && (line > 0 || at_line_start_)) data = data.substr(0, line);
  }
  if (!data.empty()) Add(Kind::kData, data);
}

Status Lexer::SkipComment() {
  const size_t end = rest().find("#}");
  if (end == std::string_view::npos) return Error("a comment {# has no #}");
  const char sign = end > 0 ? rest()[end - 1] : ' ';
  Advance(end + 2);
  if (sign == '-') SkipWhiteSpace();
  if (sign != '+' && sign != '-') SkipNewline();
  at_line_start_ = source_[at_ - 1] == '\n';
  return OkStatus();
}

// Of {% raw %} with its signs, or 0: another tag stands here.
size_t Lexer::RawBeginSize() const {
  std::string_view tag = rest().substr(2);
  if (tag.starts_with('-') || tag.starts_with('+')) tag.remove_prefix(1);
  tag = Strip(tag, Side::kLeft);
  if (!tag.starts_with("raw")) return 0;
  tag = Strip(tag.substr(3), Side::kLeft);
  if (tag.starts_with("%}")) return rest().size() - tag.size() + 2;
  if (!tag.starts_with("-%}")) return 0;
  return rest().size() - Strip(tag.substr(3), Side::kLeft).size();
}

Status Lexer::ReadRaw() {
  at_line_start_ = source_[at_ - 1] == '\n';
  for (size_t begin = at_; (begin = source_.find("{%", begin)) != std::string::npos; begin += 2) {
    if (ReadRawEnd(begin)) return OkStatus();
  }
  return Error("{% raw %} has no {% endraw %}");
}

// If {% endraw %} stands at `begin`: the text before it, and past it. False: it does not.
bool Lexer::ReadRawEnd(size_t begin) {
  std::string_view tag = std::string_view(source_).substr(begin + 2);
  const char sign = tag.empty() ? ' ' : tag[0];
  if (sign == '-' || sign == '+') tag.remove_prefix(1);
  tag = Strip(tag, Side::kLeft);
  if (!tag.starts_with("endraw")) return false;
  tag = Strip(tag.substr(6), Side::kLeft);
  const char end_sign = tag.empty() ? ' ' : tag[0];
  const bool has_sign = end_sign == '-' || end_sign == '+';
  if (!tag.substr(has_sign ? 1 : 0).starts_with("%}")) return false;
  tag.remove_prefix(has_sign ? 3 : 2);
  AddData(rest().substr(0, begin - at_), '%', sign);
  Advance(source_.size() - tag.size() - at_);
  if (end_sign == '-') SkipWhiteSpace();
  if (!has_sign) SkipNewline();
  at_line_start_ = source_[at_ - 1] == '\n';
  return true;
}

Status Lexer::ReadTag(char bracket) {
  Add(bracket == '%' ? Kind::kBlock : Kind::kOutput, "");
  brackets_.clear();
  while (true) {
    SkipWhiteSpace();
    if (at_ == source_.size()) return Error("the template ends inside a tag");
    if (brackets_.empty() && ReadTagEnd(bracket)) return OkStatus();
    TANDEM_RETURN_IF_ERROR(ReadToken());
  }
}

// %} or }} with their signs, and the white space they take away. False: something else stands here.
bool Lexer::ReadTagEnd(char bracket) {
  const char sign = rest()[0];
  const bool is_sign = sign == '-' || (sign == '+' && bracket == '%');
  const std::string_view end = bracket == '%' ? "%}" : "}}";
  if (!rest().substr(is_sign ? 1 : 0).starts_with(end)) return false;
  Add(bracket == '%' ? Kind::kBlockEnd : Kind::kOutputEnd, "");
  Advance(is_sign ? 3 : 2);
  if (sign == '-') SkipWhiteSpace();
  if (!is_sign && bracket == '%') SkipNewline();
  at_line_start_ = source_[at_ - 1] == '\n';
  return true;
}

Status Lexer::ReadToken() {
  const char first = rest()[0];
  if (first == '\'' || first == '"') return ReadString();
  if (IsDigit(first)) return ReadNumber();
  if (!IsNameStart(first)) return ReadOperator();
  size_t size = 1;
  while (size < rest().size() && IsNamePart(rest()[size])) ++size;
  Add(Kind::kName, rest().substr(0, size));
  Advance(size);
  return OkStatus();
}

// --- literals

Status Lexer::ReadString() {
  const char quote = rest()[0];
  std::string value;
  size_t i = 1;
  while (i < rest().size() && rest()[i] != quote) {
    if (rest()[i] != '\\') {
      value.push_back(rest()[i++]);
    } else if (++i < rest().size()) {
      TANDEM_RETURN_IF_ERROR(ReadEscape(i, value));
    }
  }
  if (i >= rest().size()) return Error("a string has no closing quote");
  Add(Kind::kString, value);
  Advance(i + 1);
  return OkStatus();
}

// Python's: what it does not know stays, backslash and all. `i` is that of the letter.
Status Lexer::ReadEscape(size_t& i, std::string& value) const {
  const char letter = rest()[i++];
  constexpr std::string_view kEscapes = "nrtabfv\\'\"";
  if (const size_t which = kEscapes.find(letter); which != std::string_view::npos) {
    value.push_back("\n\r\t\a\b\f\v\\'\""[which]);
    return OkStatus();
  }
  if (letter == '\n') return OkStatus();
  if (letter == 'x') return ReadCodePoint(i, 2, value);
  if (letter == 'u') return ReadCodePoint(i, 4, value);
  if (letter == 'U') return ReadCodePoint(i, 8, value);
  if (letter == 'N') {
    return Unsupported("chat template, line {}: the escape \\N in a string is not supported",
                       line_);
  }
  if (letter >= '0' && letter <= '7') {
    uint32_t code = static_cast<uint32_t>(letter - '0');
    for (int digits = 1; digits < 3 && i < rest().size() && rest()[i] >= '0' && rest()[i] <= '7';
         ++digits) {
      code = code * 8 + static_cast<uint32_t>(rest()[i++] - '0');
    }
    AppendUtf8(code, value);
    return OkStatus();
  }
  value.push_back('\\');
  value.push_back(letter);
  return OkStatus();
}

Status Lexer::ReadCodePoint(size_t& i, size_t digits, std::string& value) const {
  uint32_t code = 0;
  const std::string_view text = rest().substr(i, digits);
  const auto result = std::from_chars(text.data(), text.data() + text.size(), code, 16);
  const bool complete = text.size() == digits && result.ptr == text.data() + digits;
  if (!complete || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    return Error("an escape in a string is not a character");
  }
  AppendUtf8(code, value);
  i += digits;
  return OkStatus();
}

Status Lexer::ReadNumber() {
  const auto digits = [&](size_t from) {
    while (from < rest().size() && (IsDigit(rest()[from]) || rest()[from] == '_')) ++from;
    return from;
  };
  size_t size = digits(0);
  bool is_float = false;
  if (rest().substr(size).starts_with('.') && digits(size + 1) > size + 1) {
    size = digits(size + 1);
    is_float = true;
  }
  if (size < rest().size() && (rest()[size] | 32) == 'e') {
    const size_t sign =
        size + 1 < rest().size() && (rest()[size + 1] == '-' || rest()[size + 1] == '+');
    if (const size_t end = digits(size + 1 + sign); end > size + 1 + sign) {
      size = end;
      is_float = true;
    }
  }
  if (size < rest().size() && IsNamePart(rest()[size]))
    return Error("a number is followed by letters");
  std::string text(rest().substr(0, size));
  std::erase(text, '_');
  Add(is_float ? Kind::kFloat : Kind::kInteger, text);
  Advance(size);
  return OkStatus();
}

Status Lexer::ReadOperator() {
  for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
    if (!rest().starts_with(two)) continue;
    Add(Kind::kOperator, two);
    Advance(2);
    return OkStatus();
  }
  const char c = rest()[0];
  if (std::string_view("+-*/%~|.,:;()[]{}<>=").find(c) == std::string_view::npos) {
    return Error(fmt::format("'{}' has no meaning here", c));
  }
  TANDEM_RETURN_IF_ERROR(Balance(c));
  Add(Kind::kOperator, rest().substr(0, 1));
  Advance(1);
  return OkStatus();
}

Status Lexer::Balance(char bracket) {
  constexpr std::string_view kOpen = "([{", kClose = ")]}";
  if (const size_t open = kOpen.find(bracket); open != std::string_view::npos) {
    brackets_.push_back(kClose[open]);
  } else if (kClose.find(bracket) != std::string_view::npos) {
    if (brackets_.empty() || brackets_.back() != bracket) {
      return Error(fmt::format("'{}' closes nothing", bracket));
    }
    brackets_.pop_back();
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<JinjaToken>> LexJinja(std::string_view source) {
  return Lexer(Normalized(source)).Run();
}

}  // namespace tandem::text

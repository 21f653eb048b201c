#include "router/text/jinja_lexer.h"

#include <algorithm>
#include <utility>

namespace tandem::text {
namespace {

using Kind = JinjaToken::Kind;

constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

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
  Status ReadToken();
  Status ReadString();
  void ReadOperator();

  std::string_view rest() const { return std::string_view(source_).substr(at_); }
  void Advance(size_t count) {
    line_ +=
        static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + count, '\n'));
    at_ += count;
  }
  void SkipWhiteSpace() { Advance(std::min(rest().find_first_not_of(kWhiteSpace), rest().size())); }
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
  Advance(data.size() + 2 + (sign == '-' || sign == '+' ? 1 : 0));
  return bracket == '#' ? SkipComment() : ReadTag(bracket);
}

// `data` without the white space that the tag behind it takes away.
void Lexer::AddData(std::string_view data, char tag, char sign) {
  if (sign == '-') {
    data = data.substr(0, data.find_last_not_of(kWhiteSpace) + 1);
  } else if (sign != '+' && tag != '{') {
    const size_t line = data.rfind('\n') + 1;  // 0: none
    const bool blank = data.find_first_not_of(kWhiteSpace, line) == std::string_view::npos;
    if (blank && (line > 0 || at_line_start_)) data = data.substr(0, line);
  }
  if (!data.empty()) Add(Kind::kData, data);
}

Status Lexer::SkipComment() {
  const size_t end = rest().find("#}");
  if (end == std::string_view::npos) return Error("a comment {# has no #}");
  const char sign = end > 0 ? rest()[end - 1] : ' ';
  Advance(end + 2);
  at_line_start_ = false;
  if (sign == '-') SkipWhiteSpace();
  if (sign != '+' && rest().starts_with('\n')) Advance(1);
  at_line_start_ = source_[at_ - 1] == '\n';
  return OkStatus();
}

Status Lexer::ReadTag(char bracket) {
  Add(bracket == '%' ? Kind::kBlock : Kind::kOutput, "");
  while (true) {
    SkipWhiteSpace();
    if (at_ == source_.size()) return Error("the template ends inside a tag");
    if (ReadTagEnd(bracket)) return OkStatus();
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
  if (is_sign && sign == '-') {
    SkipWhiteSpace();
  } else if (!is_sign && bracket == '%' && rest().starts_with('\n')) {
    Advance(1);
  }
  at_line_start_ = source_[at_ - 1] == '\n';
  return true;
}

Status Lexer::ReadToken() {
  const char first = rest()[0];
  if (first == '\'' || first == '"') return ReadString();
  if (!IsNameStart(first) && !IsDigit(first)) {
    ReadOperator();
    return OkStatus();
  }
  size_t size = 1;
  while (size < rest().size() && (IsNameStart(rest()[size]) || IsDigit(rest()[size]))) ++size;
  const bool is_fraction = IsDigit(first) && rest().substr(size).starts_with('.');
  if (is_fraction) {
    return Unsupported("chat template, line {}: fractional numbers are not supported", line_);
  }
  Add(IsDigit(first) ? Kind::kInteger : Kind::kName, rest().substr(0, size));
  Advance(size);
  return OkStatus();
}

Status Lexer::ReadString() {
  const char quote = rest()[0];
  std::string value;
  size_t i = 1;
  for (; i < rest().size() && rest()[i] != quote; ++i) {
    if (rest()[i] != '\\') {
      value.push_back(rest()[i]);
      continue;
    }
    if (++i == rest().size()) break;
    constexpr std::string_view kEscapes = "nrt\\'\"";
    const size_t escape = kEscapes.find(rest()[i]);
    if (escape == std::string_view::npos) {
      return Unsupported("chat template, line {}: the escape \\{} in a string is not supported",
                         line_, rest()[i]);
    }
    value.push_back("\n\r\t\\'\""[escape]);
  }
  if (i >= rest().size()) return Error("a string has no closing quote");
  Add(Kind::kString, value);
  Advance(i + 1);
  return OkStatus();
}

void Lexer::ReadOperator() {
  size_t size = 1;
  for (const std::string_view two : {"==", "!=", "<=", ">=", "//", "**"}) {
    if (rest().starts_with(two)) size = 2;
  }
  Add(Kind::kOperator, rest().substr(0, size));
  Advance(size);
}

}  // namespace

StatusOr<std::vector<JinjaToken>> LexJinja(std::string_view source) {
  return Lexer(Normalized(source)).Run();
}

}  // namespace tandem::text

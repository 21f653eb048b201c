#include "common/grammar/ebnf.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar/json_schema.h"

namespace tandem::grammar {
namespace {

constexpr int kMaxDepth = 200;  // of groups
constexpr int kMaxCount = 100000;
constexpr int kMaxSchemas = 256;

bool IsNameChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
}

class Parser {
 public:
  Parser(std::string_view text, Rules& rules) : text_(text), rules_(rules) {}

  StatusOr<RuleId> Parse() {
    for (SkipSpace(); !AtEnd(); SkipSpace()) TANDEM_RETURN_IF_ERROR(ParseRule());
    for (const auto& [name, use] : names_) {
      if (!use.defined)
        return InvalidArgument("line {}: there is no rule '{}'", Line(use.at), name);
    }
    const auto root = names_.find("root");
    if (root == names_.end()) return InvalidArgument("the grammar has no rule 'root'");
    return root->second.rule;
  }

 private:
  struct Name {
    RuleId rule = -1;
    bool defined = false;
    size_t at = 0;  // of the first use
  };

  bool AtEnd() const { return at_ == text_.size(); }
  bool Next(char c) const { return !AtEnd() && text_[at_] == c; }
  bool Take(char c) {
    if (!Next(c)) return false;
    ++at_;
    return true;
  }
  // Counted, so for messages alone.
  int64_t Line(size_t at) const {
    return 1 + std::count(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(at), '\n');
  }
  template <class... Args>
  Status Wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("line {}: {}", Line(at_),
                           fmt::format(format, std::forward<Args>(args)...));
  }

  void SkipSpace() {
    while (!AtEnd()) {
      if (Next('#')) {
        while (!AtEnd() && !Next('\n')) ++at_;
      } else if (std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view TakeName() {
    const size_t begin = at_;
    while (!AtEnd() && IsNameChar(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  // Whether `name ::=` stands here: the next rule.
  bool AtDefinition() {
    const size_t begin = at_;
    const bool named = !TakeName().empty();
    SkipSpace();
    const bool is = named && text_.substr(at_, 3) == "::=";
    at_ = begin;
    return is;
  }

  Name& NameOf(std::string_view text) {
    const auto [it, is_new] = names_.try_emplace(std::string(text));
    if (is_new) it->second = {rules_.AddRule(std::string(text), /*written=*/true), false, at_};
    return it->second;
  }

  Status ParseRule() {
    if (!AtDefinition()) return Wrong("a rule 'name ::= ...' is expected");
    const std::string_view name = TakeName();
    SkipSpace();
    at_ += 3;
    Name& rule = NameOf(name);
    if (rule.defined) return Wrong("rule '{}' is there already", name);
    rule.defined = true;
    TANDEM_ASSIGN_OR_RETURN(const ExprId body, Alternatives(0));
    if (!AtEnd() && !AtDefinition()) return Wrong("unexpected '{}'", text_[at_]);
    rules_.Define(rule.rule, body);
    return OkStatus();
  }

  StatusOr<ExprId> Alternatives(int depth) {
    if (depth > kMaxDepth) return Wrong("groups are nested too deeply");
    std::vector<ExprId> choices;
    do {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice, Alternative(depth));
      choices.push_back(choice);
    } while (Take('|'));
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> Alternative(int depth) {
    std::vector<ExprId> parts;
    for (SkipSpace(); !AtEnd() && !Next('|') && !Next(')') && !AtDefinition(); SkipSpace()) {
      TANDEM_RETURN_IF_ERROR(rules_.CheckSize());
      TANDEM_ASSIGN_OR_RETURN(const ExprId part, Element(depth));
      TANDEM_ASSIGN_OR_RETURN(const ExprId repeated, Repeated(part));
      parts.push_back(repeated);
    }
    return rules_.Sequence(std::move(parts));
  }

  StatusOr<ExprId> Element(int depth) {
    if (Take('"')) return Literal();
    if (Take('[')) return Class();
    if (Take('.')) return rules_.CodePoints({{0, kLastCodePoint}});
    if (TakeWord("%json")) return Schema();
    if (Take('(')) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId inner, Alternatives(depth + 1));
      if (!Take(')')) return Wrong("missing )");
      return inner;
    }
    const std::string_view name = TakeName();
    if (name.empty()) return Wrong("unexpected '{}'", text_[at_]);
    return rules_.Rule(NameOf(name).rule);
  }

  bool TakeWord(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  // The JSON value that stands here: an object by its braces, or a word.
  std::string_view TakeJson() {
    if (!Next('{')) return TakeName();
    const size_t begin = at_;
    int depth = 0;
    for (bool in_string = false; !AtEnd(); ++at_) {
      const char c = text_[at_];
      if (c == '"') in_string = !in_string;
      if (in_string) {
        if (c == '\\' && at_ + 1 < text_.size()) ++at_;
      } else if (c == '{') {
        ++depth;
      } else if (c == '}' && --depth == 0) {
        ++at_;
        break;
      }
    }
    return text_.substr(begin, at_ - begin);
  }

  StatusOr<ExprId> Schema() {
    SkipSpace();
    if (++num_schemas_ > kMaxSchemas) return Wrong("more than {} schemas", kMaxSchemas);
    const StatusOr<RuleId> rule = ParseJsonSchema(TakeJson(), rules_);
    if (!rule.ok()) return Wrong("{}", Message(rule.status()));
    return rules_.Rule(*rule);
  }

  StatusOr<ExprId> Repeated(ExprId part) {
    for (;;) {
      if (Take('*')) {
        part = rules_.Repeat(part, 0, kUnbounded);
      } else if (Take('+')) {
        part = rules_.Repeat(part, 1, kUnbounded);
      } else if (Take('?')) {
        part = rules_.Optional(part);
      } else if (Take('{')) {
        TANDEM_ASSIGN_OR_RETURN(part, Counted(part));
      } else {
        return part;
      }
    }
  }

  StatusOr<ExprId> Counted(ExprId part) {
    TANDEM_ASSIGN_OR_RETURN(const int min, Number());
    int max = min;
    if (Take(',')) {
      max = kUnbounded;
      if (!Next('}')) {
        TANDEM_ASSIGN_OR_RETURN(max, Number());
      }
    }
    if (!Take('}')) return Wrong("missing }}");
    if (max != kUnbounded && max < min) return Wrong("a count from high to low");
    return rules_.Repeat(part, min, max);
  }

  StatusOr<int> Number() {
    int value = 0;
    const size_t begin = at_;
    for (; !AtEnd() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kMaxCount) return Wrong("a count above {}", kMaxCount);
    }
    if (at_ == begin) return Wrong("a number is missing");
    return value;
  }

  StatusOr<ExprId> Literal() {
    std::vector<ExprId> parts;
    while (!Take('"')) {
      TANDEM_ASSIGN_OR_RETURN(const uint32_t code, Character());
      parts.push_back(rules_.CodePoints({{code, code}}));
    }
    return rules_.Sequence(std::move(parts));
  }

  StatusOr<ExprId> Class() {
    const bool negated = Take('^');
    std::vector<CodeRange> set;
    while (!Take(']')) {
      TANDEM_ASSIGN_OR_RETURN(const uint32_t first, Character());
      uint32_t last = first;
      if (Next('-') && text_.substr(at_, 2) != "-]") {
        ++at_;
        TANDEM_ASSIGN_OR_RETURN(last, Character());
        if (last < first) return Wrong("a range from high to low");
      }
      set.push_back({first, last});
    }
    return rules_.CodePoints(negated ? Complement(std::move(set)) : std::move(set));
  }

  StatusOr<uint32_t> Character() {
    if (AtEnd() || Next('\n')) return Wrong("the line ends within a literal or a class");
    if (Take('\\')) return Escape();
    const auto lead = static_cast<uint8_t>(text_[at_]);
    const int size = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
    if (size == 0 || at_ + size > text_.size()) return Wrong("invalid UTF-8");
    uint32_t code = size == 1 ? lead : lead & (0x7f >> size);
    for (int i = 1; i < size; ++i) code = code << 6 | (text_[at_ + i] & 0x3f);
    at_ += size;
    return code;
  }

  StatusOr<uint32_t> Escape() {
    if (AtEnd()) return Wrong("a \\ at the end");
    const char c = text_[at_++];
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return Hex(2);
      case 'u':
        return Hex(4);
      case 'U':
        return Hex(8);
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) return Wrong("escape \\{}", c);
        return static_cast<uint8_t>(c);
    }
  }

  StatusOr<uint32_t> Hex(int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      if (AtEnd() || std::isxdigit(static_cast<unsigned char>(text_[at_])) == 0) {
        return Wrong("a hexadecimal digit is missing");
      }
      const char c = text_[at_];
      code = code << 4 | static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (code > kLastCodePoint) return Wrong("no code point");
    return code;
  }

  const std::string_view text_;
  Rules& rules_;
  size_t at_ = 0;
  int num_schemas_ = 0;
  std::map<std::string, Name> names_;
};

}  // namespace

StatusOr<RuleId> ParseEbnf(std::string_view text, Rules& rules) {
  return Parser(text, rules).Parse();
}

}  // namespace tandem::grammar

#include "common/grammar/regex.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace tandem::grammar {
namespace {

using Set = std::vector<CodeRange>;

constexpr int kMaxDepth = 200;     // of groups
constexpr int kMaxCount = 100000;  // in braces: beyond it the automaton would be refused anyway

const Set kDigits = {{'0', '9'}};
const Set kWords = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Set kSpaces = {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
                     {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                     {0x3000, 0x3000}, {0xfeff, 0xfeff}};
const Set kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

class Parser {
 public:
  Parser(std::string_view text, const RegexOptions& options, Rules& rules)
      : text_(text), options_(options), rules_(rules) {}

  StatusOr<ExprId> Parse() {
    TANDEM_ASSIGN_OR_RETURN(const ExprId all, Alternatives(0));
    if (!AtEnd()) return Wrong("unmatched )");
    return all;
  }

 private:
  bool AtEnd() const { return at_ == text_.size(); }
  bool Next(char c) const { return !AtEnd() && text_[at_] == c; }
  bool Take(char c) {
    if (!Next(c)) return false;
    ++at_;
    return true;
  }
  Status Wrong(std::string_view what) const {
    return InvalidArgument("regular expression: {} at byte {}", what, at_);
  }
  Status NotSupported(std::string_view what) const {
    return Unsupported("regular expression: {} at byte {} is not supported", what, at_);
  }

  ExprId Write(Set set) {
    if (!options_.write) return rules_.CodePoints(std::move(set));
    const auto it = written_.find(set);
    if (it != written_.end()) return it->second;
    const ExprId expr = options_.write(rules_, set);
    written_[std::move(set)] = expr;
    return expr;
  }
  ExprId Anything() { return rules_.Repeat(Write({{0, kLastCodePoint}}), 0, kUnbounded); }

  StatusOr<ExprId> Alternatives(int depth) {
    if (depth > kMaxDepth) return Wrong("groups nested too deeply");
    std::vector<ExprId> choices;
    do {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice, Alternative(depth));
      choices.push_back(choice);
    } while (Take('|'));
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> Alternative(int depth) {
    std::vector<ExprId> parts;
    const bool begins = Next('^');
    if (begins && depth > 0) return NotSupported("^ within a group");
    if (begins) ++at_;
    if (depth == 0 && options_.search && !begins) parts.push_back(Anything());
    bool ends = false;
    while (!AtEnd() && !Next('|') && !Next(')')) {
      if (Next('$')) {
        if (depth > 0) return NotSupported("$ within a group");
        ++at_;
        if (!AtEnd() && !Next('|')) return NotSupported("$ before the end");
        ends = true;
        break;
      }
      TANDEM_RETURN_IF_ERROR(rules_.CheckSize());
      TANDEM_ASSIGN_OR_RETURN(const ExprId atom, Atom(depth));
      TANDEM_ASSIGN_OR_RETURN(const ExprId repeated, Repeated(atom));
      parts.push_back(repeated);
    }
    if (depth == 0 && options_.search && !ends) parts.push_back(Anything());
    return rules_.Sequence(std::move(parts));
  }

  StatusOr<ExprId> Atom(int depth) {
    const char c = text_[at_];
    if (c == '(') return Group(depth);
    if (c == '[') {
      TANDEM_ASSIGN_OR_RETURN(Set set, Class());
      return Write(std::move(set));
    }
    if (c == '*' || c == '+' || c == '?') return Wrong("nothing to repeat");
    if (c == '^') return NotSupported("^ behind the beginning");
    if (c == '.') {
      ++at_;
      return Write(Complement(kLineEnds));
    }
    if (c == '\\') {
      ++at_;
      TANDEM_ASSIGN_OR_RETURN(Set set, Escape(/*in_class=*/false));
      return Write(std::move(set));
    }
    TANDEM_ASSIGN_OR_RETURN(const uint32_t code, Character());
    return Write({{code, code}});
  }

  StatusOr<ExprId> Group(int depth) {
    ++at_;
    if (Next('?')) {
      if (text_.substr(at_, 2) != "?:") return NotSupported("(?");
      at_ += 2;
    }
    TANDEM_ASSIGN_OR_RETURN(const ExprId inner, Alternatives(depth + 1));
    if (!Take(')')) return Wrong("missing )");
    return inner;
  }

  StatusOr<ExprId> Repeated(ExprId atom) {
    int min = 1, max = 1;
    if (Take('*')) {
      min = 0, max = kUnbounded;
    } else if (Take('+')) {
      max = kUnbounded;
    } else if (Take('?')) {
      min = 0;
    } else if (Next('{') && IsCount()) {
      TANDEM_RETURN_IF_ERROR(Count(min, max));
    } else {
      return atom;
    }
    Take('?');  // lazy: the same strings
    if (Next('*') || Next('+') || Next('?')) return NotSupported("a repetition of a repetition");
    return rules_.Repeat(atom, min, max);
  }

  // Whether a { begins a count and not a literal.
  bool IsCount() const {
    return at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9';
  }

  Status Count(int& min, int& max) {
    ++at_;
    TANDEM_ASSIGN_OR_RETURN(min, Number());
    max = min;
    if (Take(',')) {
      max = kUnbounded;
      if (!Next('}')) {
        TANDEM_ASSIGN_OR_RETURN(max, Number());
      }
    }
    if (!Take('}')) return Wrong("missing }");
    if (max != kUnbounded && max < min) return Wrong("a count from high to low");
    return OkStatus();
  }

  StatusOr<int> Number() {
    int value = 0;
    const size_t begin = at_;
    for (; !AtEnd() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value > kMaxCount) return Wrong("a count above 100000");
    }
    if (at_ == begin) return Wrong("a number is missing");
    return value;
  }

  StatusOr<Set> Class() {
    ++at_;
    const bool negated = Take('^');
    Set set;
    while (!Next(']')) {
      if (AtEnd()) return Wrong("missing ]");
      TANDEM_ASSIGN_OR_RETURN(Set low, ClassAtom());
      if (!Next('-') || text_.substr(at_, 2) == "-]" || at_ + 1 == text_.size()) {
        set.insert(set.end(), low.begin(), low.end());
        continue;
      }
      ++at_;
      TANDEM_ASSIGN_OR_RETURN(Set high, ClassAtom());
      if (!IsOne(low) || !IsOne(high) || low[0].first > high[0].first) {
        return Wrong("a range that is none");
      }
      set.push_back({low[0].first, high[0].first});
    }
    ++at_;
    return negated ? Complement(std::move(set)) : set;
  }

  static bool IsOne(const Set& set) { return set.size() == 1 && set[0].first == set[0].last; }

  StatusOr<Set> ClassAtom() {
    if (Take('\\')) return Escape(/*in_class=*/true);
    TANDEM_ASSIGN_OR_RETURN(const uint32_t code, Character());
    return Set{{code, code}};
  }

  StatusOr<Set> Escape(bool in_class) {
    if (AtEnd()) return Wrong("a \\ at the end");
    const char c = text_[at_];
    ++at_;
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return Complement(kDigits);
      case 'w':
        return kWords;
      case 'W':
        return Complement(kWords);
      case 's':
        return kSpaces;
      case 'S':
        return Complement(kSpaces);
      case 'n':
        return One('\n');
      case 't':
        return One('\t');
      case 'r':
        return One('\r');
      case 'f':
        return One('\f');
      case 'v':
        return One('\v');
      case '0':
        return One(0);
      case 'x':
        return Hex(2);
      case 'u':
        return Take('{') ? HexInBraces() : Utf16();
      case 'b':
        if (in_class) return One('\b');
        [[fallthrough]];
      default:
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9')) {
          --at_;
          return NotSupported(std::string("\\") + c);
        }
        --at_;
        TANDEM_ASSIGN_OR_RETURN(const uint32_t code, Character());
        return One(code);
    }
  }

  static Set One(uint32_t code) { return {{code, code}}; }

  std::optional<uint32_t> HexDigits(int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (AtEnd()) return std::nullopt;
      const char c = text_[at_];
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return std::nullopt;
      value = value * 16 + digit;
    }
    return value;
  }

  StatusOr<Set> Hex(int digits) {
    const std::optional<uint32_t> code = HexDigits(digits);
    if (!code) return Wrong("a hexadecimal digit is missing");
    return One(*code);
  }

  StatusOr<Set> HexInBraces() {
    uint32_t code = 0;
    while (!Take('}')) {
      const std::optional<uint32_t> digit = HexDigits(1);
      if (!digit || code > kLastCodePoint) return Wrong("no code point in \\u{}");
      code = code * 16 + *digit;
    }
    if (code > kLastCodePoint) return Wrong("no code point in \\u{}");
    return One(code);
  }

  // Two halves of a pair are one character.
  StatusOr<Set> Utf16() {
    TANDEM_ASSIGN_OR_RETURN(const Set high, Hex(4));
    if (high[0].first < 0xd800 || high[0].first > 0xdbff || text_.substr(at_, 2) != "\\u") {
      return high;
    }
    at_ += 2;
    TANDEM_ASSIGN_OR_RETURN(const Set low, Hex(4));
    if (low[0].first < 0xdc00 || low[0].first > 0xdfff) return Wrong("half of a pair");
    return One(0x10000 + ((high[0].first - 0xd800) << 10) + (low[0].first - 0xdc00));
  }

  // One character of the pattern itself.
  StatusOr<uint32_t> Character() {
    if (AtEnd()) return Wrong("the end, where a character should be,");
    const auto lead = static_cast<uint8_t>(text_[at_]);
    const int size = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 0;
    if (size == 0 || at_ + size > text_.size()) return Wrong("invalid UTF-8");
    uint32_t code = size == 1 ? lead : lead & (0x7f >> size);
    for (int i = 1; i < size; ++i) {
      const auto byte = static_cast<uint8_t>(text_[at_ + i]);
      if ((byte & 0xc0) != 0x80) return Wrong("invalid UTF-8");
      code = code << 6 | (byte & 0x3f);
    }
    at_ += size;
    return code;
  }

  const std::string_view text_;
  const RegexOptions& options_;
  Rules& rules_;
  size_t at_ = 0;
  std::map<Set, ExprId> written_;  // by options_.write
};

}  // namespace

StatusOr<ExprId> ParseRegex(std::string_view pattern, const RegexOptions& options, Rules& rules) {
  return Parser(pattern, options, rules).Parse();
}

}  // namespace tandem::grammar

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
    TANDEM_ASSIGN_OR_RETURN(const Piece all, Alternatives(0));
    if (!AtEnd()) return Wrong("unmatched )");
    return all.expr;
  }

 private:
  // A part, and how many characters it matches.
  struct Piece {
    ExprId expr = -1;
    int64_t min = 0, max = 0;  // max kUnbounded: any number
    // A repetition of what has one length: of `unit`, `low` to `high` times; -1: it is none.
    ExprId unit = -1;
    int64_t unit_length = 0;
    int low = 0, high = 0;
  };

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
  Piece OneOf(Set set) { return {.expr = Write(std::move(set)), .min = 1, .max = 1}; }
  Piece Anything() { return Repeat(OneOf({{0, kLastCodePoint}}), 0, kUnbounded); }

  Piece Repeat(const Piece& part, int low, int high) {
    // Far beyond what can be laid out, and far from what overflows.
    const auto times = [](int64_t length, int count) {
      return std::min<int64_t>(length * count, int64_t{1} << 40);
    };
    Piece out = {.expr = rules_.Repeat(part.expr, low, high), .min = times(part.min, low)};
    const bool bounded = (part.max != kUnbounded && high != kUnbounded) || part.max == 0;
    out.max = part.max == 0 ? 0 : bounded ? times(part.max, high) : kUnbounded;
    if (part.min == part.max && part.max > 0) {
      out.unit = part.expr;
      out.unit_length = part.max;
      out.low = low;
      out.high = high;
    }
    return out;
  }

  // As one part, of which the lengths add up.
  Piece Joined(const std::vector<Piece>& pieces) {
    if (pieces.size() == 1) return pieces[0];
    Piece out;
    std::vector<ExprId> parts;
    for (const Piece& piece : pieces) {
      parts.push_back(piece.expr);
      out.min = std::min<int64_t>(out.min + piece.min, int64_t{1} << 40);
      out.max = out.max == kUnbounded || piece.max == kUnbounded
                    ? kUnbounded
                    : std::min<int64_t>(out.max + piece.max, int64_t{1} << 40);
    }
    out.expr = rules_.Sequence(std::move(parts));
    return out;
  }

  // An alternative of the outermost level, within the bounds of the whole.
  StatusOr<Piece> Fitted(std::vector<Piece> pieces) {
    const int64_t min = options_.min_length, max = options_.max_length;
    const Piece all = Joined(pieces);
    const bool short_enough = max == kUnbounded || (all.max != kUnbounded && all.max <= max);
    if (all.min >= min && short_enough) return all;
    const Piece never = {.expr = rules_.Never()};
    if ((all.max != kUnbounded && all.max < min) || (max != kUnbounded && all.min > max)) {
      return never;
    }
    Piece* varies = nullptr;
    int64_t fixed = 0;
    for (Piece& piece : pieces) {
      if (piece.min == piece.max) {
        fixed += piece.min;
      } else if (varies == nullptr && piece.unit >= 0) {
        varies = &piece;
      } else {
        return Unsupported(
            "regular expression: a bound of its length, where more than one repetition between ^ "
            "and $ varies in length, is not supported");
      }
    }
    const int64_t unit = varies->unit_length;
    const int64_t low = std::max<int64_t>(varies->low, (min - fixed + unit - 1) / unit);
    int64_t high = varies->high;
    if (max != kUnbounded) {
      const int64_t most = (max - fixed) / unit;
      high = high == kUnbounded ? most : std::min(high, most);
    }
    if (high != kUnbounded && high < low) return never;
    *varies = {.expr = rules_.Repeat(varies->unit, static_cast<int>(low), static_cast<int>(high))};
    return Joined(pieces);
  }

  StatusOr<Piece> Alternatives(int depth) {
    if (depth > kMaxDepth) return Wrong("groups nested too deeply");
    TANDEM_ASSIGN_OR_RETURN(Piece all, Alternative(depth));
    if (!Next('|')) return all;
    std::vector<ExprId> choices = {all.expr};
    while (Take('|')) {
      TANDEM_ASSIGN_OR_RETURN(const Piece choice, Alternative(depth));
      choices.push_back(choice.expr);
      all.min = std::min(all.min, choice.min);
      all.max = all.max == kUnbounded || choice.max == kUnbounded ? kUnbounded
                                                                  : std::max(all.max, choice.max);
    }
    all.expr = rules_.Choice(std::move(choices));
    all.unit = -1;
    return all;
  }

  StatusOr<Piece> Alternative(int depth) {
    std::vector<Piece> parts;
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
      TANDEM_ASSIGN_OR_RETURN(const Piece atom, Atom(depth));
      TANDEM_ASSIGN_OR_RETURN(const Piece repeated, Repeated(atom));
      parts.push_back(repeated);
    }
    if (depth == 0 && options_.search && !ends) parts.push_back(Anything());
    if (depth == 0) return Fitted(std::move(parts));
    return Joined(parts);
  }

  StatusOr<Piece> Atom(int depth) {
    const char c = text_[at_];
    if (c == '(') return Group(depth);
    if (c == '[') {
      TANDEM_ASSIGN_OR_RETURN(Set set, Class());
      return OneOf(std::move(set));
    }
    if (c == '*' || c == '+' || c == '?' || (c == '{' && (IsCount() || IsCountWithoutLow()))) {
      return Wrong("nothing to repeat");
    }
    if (c == '^') return NotSupported("^ behind the beginning");
    if (c == '.') {
      ++at_;
      return OneOf(Complement(kLineEnds));
    }
    if (c == '\\') {
      ++at_;
      TANDEM_ASSIGN_OR_RETURN(Set set, Escape(/*in_class=*/false));
      return OneOf(std::move(set));
    }
    TANDEM_ASSIGN_OR_RETURN(const uint32_t code, Character());
    return OneOf({{code, code}});
  }

  StatusOr<Piece> Group(int depth) {
    ++at_;
    if (Next('?')) {
      if (text_.substr(at_, 2) != "?:") return NotSupported("(?");
      at_ += 2;
    }
    TANDEM_ASSIGN_OR_RETURN(const Piece inner, Alternatives(depth + 1));
    if (!Take(')')) return Wrong("missing )");
    return inner;
  }

  StatusOr<Piece> Repeated(const Piece& atom) {
    int min = 1, max = 1;
    if (Take('*')) {
      min = 0, max = kUnbounded;
    } else if (Take('+')) {
      max = kUnbounded;
    } else if (Take('?')) {
      min = 0;
    } else if (Next('{') && IsCount()) {
      TANDEM_RETURN_IF_ERROR(Count(min, max));
    } else if (IsCountWithoutLow()) {
      return NotSupported("{,n} (for {0,n})");
    } else {
      return atom;
    }
    Take('?');  // lazy: the same strings
    if (Next('*') || Next('+') || Next('?')) return NotSupported("a repetition of a repetition");
    if (Next('{') && IsCount()) return Wrong("nothing to repeat");
    return Repeat(atom, min, max);
  }

  // Whether a {,n} stands here: from 0 to n in Python, these characters in ECMAScript.
  bool IsCountWithoutLow() const {
    if (text_.substr(at_, 2) != "{,") return false;
    const size_t end = text_.find_first_not_of("0123456789", at_ + 2);
    return end != std::string_view::npos && text_[end] == '}';
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
    // Python takes a ] here for a character, ECMAScript for the end.
    if (Next(']')) return Wrong("an empty class (the character ] is written \\])");
    while (!Next(']')) {
      if (AtEnd()) return Wrong("missing ]");
      if (text_.substr(at_, 2) == "[:") {
        const size_t end = text_.find(":]", at_ + 2);
        if (end != std::string_view::npos && end - at_ < 12) {
          return NotSupported(text_.substr(at_, end + 2 - at_));
        }
      }
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

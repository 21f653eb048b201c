#include "common/tokenizer/regex_parser.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "common/tokenizer/utf8.h"

namespace tandem::text {
namespace {

constexpr size_t kMaxPattern = 1 << 16;
constexpr int kMaxDepth = 64;  // of groups and classes
constexpr int kMaxRepeat = 1000;

bool IsAsciiLetter(uint32_t code) { return (code | 0x20) >= 'a' && (code | 0x20) <= 'z'; }

// `set` and what differs from its ASCII letters in case only.
CodeSet FoldCase(const CodeSet& set) {
  CodeSet folded = set;
  for (uint32_t lower = 'a'; lower <= 'z'; ++lower) {
    CodeSet same = CodeSet({{lower, lower}, {lower - 0x20, lower - 0x20}});
    if (lower == 's') same = same | CodeSet::Of(0x17f);
    if (lower == 'k') same = same | CodeSet::Of(0x212a);
    if (!(same & set).ranges().empty()) folded = folded | same;
  }
  return folded;
}

class Parser {
 public:
  explicit Parser(std::string_view pattern) : pattern_(pattern) {}

  StatusOr<RegexNode> Parse() {
    if (pattern_.size() > kMaxPattern || !IsValidUtf8(pattern_)) {
      return InvalidArgument("not UTF-8, or longer than {} bytes", kMaxPattern);
    }
    TANDEM_ASSIGN_OR_RETURN(RegexNode node, Choice());
    if (at_ < pattern_.size()) return Wrong("')' without '('");
    return node;
  }

 private:
  bool AtEnd() const { return at_ >= pattern_.size(); }
  char Peek() const { return AtEnd() ? '\0' : pattern_[at_]; }
  bool Take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  uint32_t TakeCode() {
    const CodePoint point = ReadCodePoint(pattern_, at_);
    at_ += point.size;
    return point.value;
  }
  Status Wrong(std::string_view what) const { return InvalidArgument("byte {}: {}", at_, what); }
  Status NotSupported(std::string_view what) const {
    return Unsupported("byte {}: {} is not supported", at_, what);
  }

  StatusOr<RegexNode> Choice() {
    if (++depth_ > kMaxDepth) return Wrong("nested too deeply");
    const bool fold_case = fold_case_;  // (?i) holds to the end of its group
    std::vector<RegexNode> choices;
    do {
      TANDEM_ASSIGN_OR_RETURN(RegexNode sequence, Sequence());
      choices.push_back(std::move(sequence));
    } while (Take("|"));
    fold_case_ = fold_case;
    --depth_;
    if (choices.size() == 1) return std::move(choices[0]);
    return RegexNode{.kind = RegexNode::kChoice, .children = std::move(choices)};
  }

  StatusOr<RegexNode> Sequence() {
    RegexNode sequence;
    while (!AtEnd() && Peek() != '|' && Peek() != ')') {
      if (Take("(?i)")) {
        fold_case_ = true;
        continue;
      }
      TANDEM_ASSIGN_OR_RETURN(RegexNode item, Item());
      TANDEM_ASSIGN_OR_RETURN(item, Quantified(std::move(item)));
      sequence.children.push_back(std::move(item));
    }
    return sequence;
  }

  StatusOr<RegexNode> Item() {
    if (Take("(")) return Group();
    if (Take("[")) {
      TANDEM_ASSIGN_OR_RETURN(CodeSet set, Class());
      return OfSet(std::move(set));
    }
    if (Take(".")) return OfSet(CodeSet::Of('\n').Complement());
    if (Take("^")) return RegexNode{.kind = RegexNode::kLineBegin};
    if (Take("$")) return RegexNode{.kind = RegexNode::kLineEnd};
    if (Take("\\A")) return RegexNode{.kind = RegexNode::kTextBegin};
    if (Take("\\z")) return RegexNode{.kind = RegexNode::kTextEnd};
    if (Take("\\")) {
      TANDEM_ASSIGN_OR_RETURN(CodeSet set, Escape());
      return OfSet(std::move(set));
    }
    if (Peek() == '*' || Peek() == '+' || Peek() == '?') return Wrong("nothing to repeat");
    return OfSet(CodeSet::Of(TakeCode()));
  }

  RegexNode OfSet(CodeSet set) const {
    return {.kind = RegexNode::kSet, .set = fold_case_ ? FoldCase(set) : std::move(set)};
  }

  // After "(".
  StatusOr<RegexNode> Group() {
    const bool outer_fold_case = fold_case_;
    RegexNode ahead = {.kind = RegexNode::kAhead};
    bool is_ahead = false;
    if (Take("?i:")) {
      fold_case_ = true;
    } else if (Take("?=") || Take("?!")) {
      is_ahead = true;
      ahead.negative = pattern_[at_ - 1] == '!';
    } else if (!Take("?:") && Peek() == '?') {
      return NotSupported("this kind of group");
    }
    TANDEM_ASSIGN_OR_RETURN(RegexNode inner, Choice());
    fold_case_ = outer_fold_case;
    if (!Take(")")) return Wrong("'(' without ')'");
    if (!is_ahead) return inner;
    ahead.children.push_back(std::move(inner));
    return ahead;
  }

  StatusOr<RegexNode> Quantified(RegexNode item) {
    while (true) {
      RegexNode repeat = {.kind = RegexNode::kRepeat};
      bool counted = false;
      if (Take("?")) {
        repeat.max = 1;
      } else if (Take("+")) {
        repeat.min = 1;
      } else if (Peek() == '{' && ReadCounts(repeat)) {
        counted = true;
        if (repeat.max != RegexNode::kNoLimit && repeat.max < repeat.min) {
          return Wrong("the counts are the wrong way round");
        }
      } else if (!Take("*")) {
        return item;
      }
      if (Peek() == '?') return NotSupported("a lazy quantifier");
      if (!counted && Take("+")) {
        if (item.kind != RegexNode::kSet) return NotSupported("a possessive group");
        repeat.possessive = true;
      }
      repeat.children.push_back(std::move(item));
      item = std::move(repeat);
    }
  }

  // {n}, {n,}, {,m}, {n,m}; leaves what is none of these: an ordinary brace.
  bool ReadCounts(RegexNode& repeat) {
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) return false;
    const std::string_view counts = pattern_.substr(at_ + 1, close - at_ - 1);
    const size_t comma = counts.find(',');
    const auto low = Count(counts.substr(0, comma));
    const auto high =
        comma == std::string_view::npos ? std::nullopt : Count(counts.substr(comma + 1));
    if (comma == std::string_view::npos ? !low : !low && !high) return false;
    if (comma != std::string_view::npos && (comma > 0) != low.has_value()) return false;
    if (comma != std::string_view::npos && (comma + 1 < counts.size()) != high.has_value()) {
      return false;
    }
    repeat.min = low.value_or(0);
    repeat.max = comma == std::string_view::npos ? repeat.min : high.value_or(RegexNode::kNoLimit);
    at_ = close + 1;
    return true;
  }

  static std::optional<int> Count(std::string_view digits) {
    int value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    if (!whole || value < 0 || value > kMaxRepeat) return std::nullopt;
    return value;
  }

  // After "[". A union of items, cut by the unions after each "&&".
  StatusOr<CodeSet> Class() {
    if (++depth_ > kMaxDepth) return Wrong("nested too deeply");
    const bool negative = Take("^");
    std::optional<CodeSet> cut;  // of the unions before the last "&&"
    CodeSet set;
    bool is_empty = true;
    while (!Take("]")) {
      if (AtEnd()) return Wrong("'[' without ']'");
      if (Take("&&")) {
        cut = cut ? *cut & set : set;
        set = CodeSet();
        continue;
      }
      TANDEM_ASSIGN_OR_RETURN(const CodeSet item, ClassItem());
      set = set | item;
      is_empty = false;
    }
    if (is_empty) return Wrong("an empty class");
    --depth_;
    if (cut) set = *cut & set;
    return negative ? set.Complement() : set;
  }

  StatusOr<CodeSet> ClassItem() {
    if (pattern_.substr(at_).starts_with("[:")) return NotSupported("a POSIX bracket");
    if (Take("[")) return Class();
    TANDEM_ASSIGN_OR_RETURN(const CodeSet first, ClassCharacter());
    const std::string_view rest = pattern_.substr(at_);
    if (rest.size() < 2 || rest[0] != '-' || rest[1] == ']' || rest[1] == '[') return first;
    ++at_;
    TANDEM_ASSIGN_OR_RETURN(const CodeSet last, ClassCharacter());
    if (!IsOne(first) || !IsOne(last) || last.ranges()[0].first < first.ranges()[0].first) {
      return Wrong("a range that is none");
    }
    return CodeSet({{first.ranges()[0].first, last.ranges()[0].first}});
  }

  StatusOr<CodeSet> ClassCharacter() {
    if (Take("\\")) return Escape();
    if (AtEnd()) return Wrong("'[' without ']'");
    return CodeSet::Of(TakeCode());
  }

  static bool IsOne(const CodeSet& set) {
    return set.ranges().size() == 1 && set.ranges()[0].first == set.ranges()[0].last;
  }

  // After "\".
  StatusOr<CodeSet> Escape() {
    if (AtEnd()) return Wrong("a backslash at the end");
    const uint32_t code = TakeCode();
    switch (code) {
      case 'n':
        return CodeSet::Of('\n');
      case 'r':
        return CodeSet::Of('\r');
      case 't':
        return CodeSet::Of('\t');
      case 'f':
        return CodeSet::Of('\f');
      case 'v':
        return CodeSet::Of('\v');
      case 's':
        return CodeSet::Space();
      case 'S':
        return CodeSet::Space().Complement();
      case 'd':
        return CodeSet::Digit();
      case 'D':
        return CodeSet::Digit().Complement();
      case 'w':
        return CodeSet::Word();
      case 'W':
        return CodeSet::Word().Complement();
      case 'p':
      case 'P':
        return Property(code == 'P');
      case 'x':
        return Take("{") ? HexCode(8, "}") : HexCode(2, "");
      case 'u':
        return HexCode(4, "");
      default:
        break;
    }
    if (IsAsciiLetter(code) || (code >= '0' && code <= '9')) {
      return NotSupported("this escape");
    }
    return CodeSet::Of(code);
  }

  StatusOr<CodeSet> Property(bool negative) {
    if (!Take("{")) return Wrong("\\p without '{'");
    if (Take("^")) negative = !negative;
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos) return Wrong("'{' without '}'");
    const auto set = CodeSet::Property(pattern_.substr(at_, close - at_));
    if (!set) return NotSupported("this property");
    at_ = close + 1;
    return negative ? set->Complement() : *set;
  }

  // Up to `most` hexadecimal digits, then `close`.
  StatusOr<CodeSet> HexCode(size_t most, std::string_view close) {
    const std::string_view digits = pattern_.substr(at_, most);
    uint32_t code = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (error != std::errc() || code > kLastCode) return Wrong("no character's number");
    at_ += static_cast<size_t>(end - digits.data());
    if (!Take(close)) return Wrong("'{' without '}'");
    return CodeSet::Of(code);
  }

  std::string_view pattern_;
  size_t at_ = 0;
  int depth_ = 0;
  bool fold_case_ = false;
};

}  // namespace

StatusOr<RegexNode> ParseRegex(std::string_view pattern) { return Parser(pattern).Parse(); }

}  // namespace tandem::text

#include "common/grammar/json_rules.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/grammar/regex.h"

namespace tandem::grammar {
namespace {

constexpr int kMaxIndent = 32;

// Characters that stand for themselves within a JSON string.
const std::vector<CodeRange> kPlain = {{0x20, 0x21}, {0x23, 0x5b}, {0x5d, kLastCodePoint}};

// One character of `set` within a JSON string, in one form each.
ExprId WriteEscaped(Rules& rules, std::vector<CodeRange> set) {
  constexpr std::pair<char, const char*> kShort[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"},
                                                     {'\f', "\\f"}, {'\n', "\\n"},  {'\r', "\\r"},
                                                     {'\t', "\\t"}};
  if (set.size() == 1 && set[0].first == set[0].last && set[0].first > '\\') {
    return rules.CodePoints(std::move(set));
  }
  const auto has = [&](uint32_t code) {
    return std::any_of(set.begin(), set.end(), [&](const CodeRange& range) {
      return range.first <= code && code <= range.last;
    });
  };
  std::vector<ExprId> choices;
  for (uint32_t code = 0; code < 0x60; ++code) {
    const auto escape = std::find_if(std::begin(kShort), std::end(kShort), [&](auto& pair) {
      return static_cast<uint8_t>(pair.first) == code;
    });
    const bool is_short = escape != std::end(kShort);
    if ((code >= 0x20 && !is_short) || !has(code)) continue;
    choices.push_back(rules.Literal(is_short ? escape->second : fmt::format("\\u{:04x}", code)));
  }
  std::vector<CodeRange> plain;
  for (const CodeRange& range : set) {
    for (const CodeRange& allowed : kPlain) {
      const CodeRange both = {std::max(range.first, allowed.first),
                              std::min(range.last, allowed.last)};
      if (both.first <= both.last) plain.push_back(both);
    }
  }
  if (!plain.empty()) choices.push_back(rules.CodePoints(std::move(plain)));
  return rules.Choice(std::move(choices));
}

std::vector<uint32_t> CodePointsOf(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<uint8_t>(text[at]);
    const size_t size = lead < 0x80 ? 1 : lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    uint32_t code = size == 1 ? lead : lead & (0x7f >> size);
    for (size_t i = 1; i < size && at + i < text.size(); ++i)
      code = code << 6 | (text[at + i] & 63);
    out.push_back(code);
    at += size;
  }
  return out;
}

}  // namespace

ExprId JsonRules::Shared(ExprId& cache, const char* name, ExprId (JsonRules::*make)()) {
  if (cache < 0) {
    const RuleId rule = rules_.AddRule(name);
    cache = rules_.Rule(rule);  // before the body is made: values hold values
    rules_.Define(rule, (this->*make)());
  }
  return cache;
}

ExprId JsonRules::Space() { return Shared(space_, "space", &JsonRules::MakeSpace); }
ExprId JsonRules::Value() { return Shared(value_, "value", &JsonRules::MakeValue); }
ExprId JsonRules::Object() { return Shared(object_, "object", &JsonRules::MakeObject); }
ExprId JsonRules::Array() { return Shared(array_, "array", &JsonRules::MakeArray); }
ExprId JsonRules::String() { return Shared(string_, "string", &JsonRules::MakeString); }
ExprId JsonRules::Number() { return Shared(number_, "number", &JsonRules::MakeNumber); }
ExprId JsonRules::Integer() { return Shared(integer_, "integer", &JsonRules::MakeInteger); }

ExprId JsonRules::Boolean() {
  return rules_.Choice({rules_.Literal("true"), rules_.Literal("false")});
}

ExprId JsonRules::MakeSpace() {
  const ExprId indent = rules_.Choice({rules_.Byte(' ', ' '), rules_.Byte('\t', '\t')});
  return rules_.Choice(
      {rules_.Nothing(), rules_.Literal(" "),
       rules_.Sequence({rules_.Literal("\n"), rules_.Repeat(indent, 0, kMaxIndent)})});
}

ExprId JsonRules::MakeValue() {
  return rules_.Choice({Object(), Array(), String(), Number(), Boolean(), rules_.Literal("null")});
}

ExprId JsonRules::ListOf(ExprId item) {
  const ExprId next = rules_.Sequence({rules_.Literal(","), Space(), item});
  return rules_.Sequence({item, rules_.Repeat(next, 0, kUnbounded)});
}

ExprId JsonRules::MakeObject() {
  const ExprId pair = rules_.Sequence({String(), rules_.Literal(":"), Space(), Value()});
  return rules_.Sequence({rules_.Literal("{"), Space(),
                          rules_.Optional(rules_.Sequence({ListOf(pair), Space()})),
                          rules_.Literal("}")});
}

ExprId JsonRules::MakeArray() {
  return rules_.Sequence({rules_.Literal("["), Space(),
                          rules_.Optional(rules_.Sequence({ListOf(Value()), Space()})),
                          rules_.Literal("]")});
}

// A character of a string in any of its forms. An escaped surrogate comes with its other half.
ExprId JsonRules::Character() {
  const auto hex = [&](std::string_view first, std::string_view second) {
    const auto digit = [&](std::string_view set) {
      std::vector<CodeRange> codes;
      for (const char c : set) codes.push_back({static_cast<uint8_t>(c), static_cast<uint8_t>(c)});
      return rules_.CodePoints(std::move(codes));
    };
    constexpr std::string_view kAll = "0123456789abcdefABCDEF";
    return rules_.Sequence(
        {rules_.Literal("\\u"), digit(first), digit(second), digit(kAll), digit(kAll)});
  };
  const ExprId short_escape =
      rules_.Sequence({rules_.Literal("\\"), rules_.CodePoints({{'"', '"'},
                                                                {'\\', '\\'},
                                                                {'/', '/'},
                                                                {'b', 'b'},
                                                                {'f', 'f'},
                                                                {'n', 'n'},
                                                                {'r', 'r'},
                                                                {'t', 't'}})});
  return rules_.Choice({rules_.CodePoints(kPlain), short_escape,
                        hex("0123456789abcefABCEF", "0123456789abcdefABCDEF"),
                        hex("dD", "01234567"),
                        rules_.Sequence({hex("dD", "89abAB"), hex("dD", "cdefCDEF")})});
}

ExprId JsonRules::Quoted(ExprId text) {
  return rules_.Sequence({rules_.Literal("\""), text, rules_.Literal("\"")});
}

ExprId JsonRules::MakeString() { return Quoted(rules_.Repeat(Character(), 0, kUnbounded)); }

ExprId JsonRules::StringOfLength(int min, int max) {
  if (min == 0 && max == kUnbounded) return String();
  const std::string key = fmt::format("string of {} to {} characters", min, max);
  const auto it = once_.find(key);
  return it != once_.end() ? it->second : Once(key, Quoted(rules_.Repeat(Character(), min, max)));
}

ExprId JsonRules::Once(const std::string& key, ExprId body) {
  const RuleId rule = rules_.AddRule(key);
  rules_.Define(rule, body);
  return once_[key] = rules_.Rule(rule);
}

StatusOr<ExprId> JsonRules::Pattern(std::string_view pattern, bool search, LengthRange length) {
  const std::string key = fmt::format("string of {} to {} {} {}", length.min, length.max,
                                      search ? "with" : "that is", pattern);
  const auto it = once_.find(key);
  if (it != once_.end()) return it->second;
  TANDEM_ASSIGN_OR_RETURN(const ExprId text, ParseRegex(pattern,
                                                        {.search = search,
                                                         .min_length = length.min,
                                                         .max_length = length.max,
                                                         .write = WriteEscaped},
                                                        rules_));
  return Once(key, Quoted(text));
}

StatusOr<ExprId> JsonRules::StringWithPattern(std::string_view pattern, LengthRange length) {
  return Pattern(pattern, /*search=*/true, length);
}

StatusOr<ExprId> JsonRules::StringWithFormat(std::string_view format, LengthRange length) {
  if (format == "binary" || format == "password") return StringOfLength(length.min, length.max);
  if (format == "uri") {
    // A scheme of up to 20 characters, which a bound leaves room for; then what RFC 3986 allows.
    constexpr int kScheme = 20;
    std::string rest = "([\\w!#$&'()*+,./:;=?@~-]|%[0-9A-F]{2})+";
    if (length.max != kUnbounded || length.min > 3) {
      const int least = std::max(length.min - 2, 1), most = length.max - kScheme - 1;
      if (length.max != kUnbounded && most < least) return Unsupported("a 'uri' of that length");
      rest = fmt::format("[\\w!#$&'()*+,./:;=?@~-]{{{},{}}}", least,
                         length.max == kUnbounded ? "" : std::to_string(most));
    }
    return Pattern(fmt::format("[A-Za-z][A-Za-z0-9+.-]{{0,{}}}:{}", kScheme - 1, rest), false, {});
  }
  // 29 February is left out: whether it exists depends on the year.
  static const std::string kDate =
      "\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"
      "02-(0[1-9]|1\\d|2[0-8]))";
  static const std::string kTime =
      "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
  static const std::string kDays =
      "(\\d{1,9}Y(\\d{1,9}M(\\d{1,9}D)?)?|\\d{1,9}M(\\d{1,9}D)?|\\d{1,9}D)";
  static const std::string kHours =
      "T(\\d{1,9}H(\\d{1,9}M(\\d{1,9}S)?)?|\\d{1,9}M(\\d{1,9}S)?|\\d{1,9}S)";
  static const std::string kByte = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  static const std::string kHex = "[0-9a-fA-F]{1,4}";
  // Labels are shorter than they may be, so that all of them together are not too long.
  static const std::string kLabel = "[A-Za-z0-9]([A-Za-z0-9-]{0,28}[A-Za-z0-9])?";
  static const std::map<std::string_view, std::string> kFormats = {
      {"date", kDate},
      {"time", kTime},
      {"date-time", fmt::format("{}T{}", kDate, kTime)},
      {"duration", fmt::format("P({0}({1})?|{1}|\\d{{1,9}}W)", kDays, kHours)},
      {"uuid", "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"},
      {"ipv4", fmt::format("({0}\\.){{3}}{0}", kByte)},
      {"ipv6", fmt::format("({0}:){{7}}{0}|({0}:){{1,7}}:|({0}:){{1,6}}:{0}|"
                           "({0}:){{1,5}}(:{0}){{1,2}}|({0}:){{1,4}}(:{0}){{1,3}}|"
                           "({0}:){{1,3}}(:{0}){{1,4}}|({0}:){{1,2}}(:{0}){{1,5}}|"
                           "{0}:(:{0}){{1,6}}|:(:{0}){{1,7}}|::",
                           kHex)},
      {"hostname", fmt::format("{0}(\\.{0}){{0,7}}", kLabel)},
      {"email",
       "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9]+(-[A-Za-z0-9]+)*"
       "(\\.[A-Za-z0-9]+(-[A-Za-z0-9]+)*)+"},
  };
  const auto known = kFormats.find(format);
  if (known != kFormats.end()) return Pattern(known->second, false, length);
  return Unsupported(
      "format '{}' (date, time, date-time, duration, uuid, ipv4, ipv6, hostname, "
      "email, uri, binary and password are)",
      format);
}

ExprId JsonRules::StringExcept(const std::vector<std::string_view>& names) {
  std::vector<std::vector<uint32_t>> codes;
  codes.reserve(names.size());
  for (const std::string_view name : names) codes.push_back(CodePointsOf(name));
  std::sort(codes.begin(), codes.end());
  // The names as a tree: what is alike at the beginning is there once. Children come behind.
  struct Branch {
    size_t depth = 0;
    bool ends = false;  // a name does, which is what must not be
    std::vector<std::pair<uint32_t, size_t>> next = {};
  };
  std::vector<Branch> branches(1);
  for (const std::vector<uint32_t>& name : codes) {
    size_t at = 0;
    for (const uint32_t code : name) {
      if (branches[at].next.empty() || branches[at].next.back().first != code) {
        branches[at].next.emplace_back(code, branches.size());
        branches.push_back({.depth = branches[at].depth + 1});
      }
      at = branches[at].next.back().second;
    }
    branches[at].ends = true;
  }
  // From the last on, so without recursion. Rules in between keep expressions from nesting deeply.
  constexpr size_t kMaxNested = 32;
  const ExprId rest = rules_.Repeat(rules_.CodePoints(kPlain), 0, kUnbounded);
  std::vector<ExprId> made(branches.size());
  for (size_t i = branches.size(); i-- > 0 && rules_.CheckSize().ok();) {
    const Branch& branch = branches[i];
    std::vector<ExprId> choices;
    if (!branch.ends) choices.push_back(rules_.Nothing());
    std::vector<CodeRange> other = {{0, 0x1f}, {'"', '"'}, {'\\', '\\'}};
    for (const auto& [code, child] : branch.next) {
      other.push_back({code, code});
      choices.push_back(rules_.Sequence({WriteEscaped(rules_, {{code, code}}), made[child]}));
    }
    other = Complement(std::move(other));
    choices.push_back(rules_.Sequence({rules_.CodePoints(std::move(other)), rest}));
    made[i] = rules_.Choice(std::move(choices));
    if (branch.depth % kMaxNested == kMaxNested - 1) {
      const RuleId rule = rules_.AddRule("name");
      rules_.Define(rule, made[i]);
      made[i] = rules_.Rule(rule);
    }
  }
  return Quoted(made[0]);
}

ExprId JsonRules::Digits(int min, int max) {
  return rules_.Repeat(rules_.Byte('0', '9'), min, max);
}

ExprId JsonRules::MakeInteger() { return MakeIntegerIn({}); }

ExprId JsonRules::MakeNumber() {
  const ExprId minus = rules_.Optional(rules_.Literal("-"));
  const ExprId fraction = rules_.Sequence({rules_.Literal("."), Digits(1, kUnbounded)});
  const ExprId sign = rules_.Choice({rules_.Nothing(), rules_.Literal("+"), rules_.Literal("-")});
  const ExprId exponent = rules_.Sequence(
      {rules_.Choice({rules_.Literal("e"), rules_.Literal("E")}), sign, Digits(1, kUnbounded)});
  return rules_.Sequence(
      {minus, NaturalIn(0, std::nullopt), rules_.Optional(fraction), rules_.Optional(exponent)});
}

// Digit strings from `low` to `high`, which are as long as each other.
ExprId JsonRules::SameLength(std::string_view low, std::string_view high) {
  const auto size = static_cast<int>(low.size());
  const auto digit = [&](char first, char last) {
    return rules_.Byte(static_cast<uint8_t>(first), static_cast<uint8_t>(last));
  };
  if (size == 1) return digit(low[0], high[0]);
  const auto all = [](std::string_view text, char c) {
    return text.find_first_not_of(c) == std::string_view::npos;
  };
  if (all(low, '0') && all(high, '9')) return Digits(size, size);
  const std::string_view low_rest = low.substr(1), high_rest = high.substr(1);
  if (low[0] == high[0]) {
    return rules_.Sequence({digit(low[0], low[0]), SameLength(low_rest, high_rest)});
  }
  // First digits behind which anything may come are taken together, so each end goes one way only:
  // as many expressions as there are digits.
  char first = low[0], last = high[0];
  std::vector<ExprId> choices;
  if (!all(low_rest, '0')) {
    choices.push_back(rules_.Sequence(
        {digit(first, first), SameLength(low_rest, std::string(low_rest.size(), '9'))}));
    ++first;
  }
  if (!all(high_rest, '9')) {
    choices.push_back(rules_.Sequence(
        {digit(last, last), SameLength(std::string(high_rest.size(), '0'), high_rest)}));
    --last;
  }
  if (first <= last) {
    choices.push_back(rules_.Sequence({digit(first, last), Digits(size - 1, size - 1)}));
  }
  return rules_.Choice(std::move(choices));
}

// Whole numbers from `min` >= 0 on, without leading zeros.
ExprId JsonRules::NaturalIn(int64_t min, std::optional<int64_t> max) {
  if (max && *max < min) return rules_.Never();
  const std::string low = std::to_string(min);
  const auto low_size = static_cast<int>(low.size());
  const std::string low_end(low.size(), '9');  // the last that is as long
  if (!max) {
    const ExprId longer = rules_.Sequence({rules_.Byte('1', '9'), Digits(low_size, kUnbounded)});
    return rules_.Choice({SameLength(low, low_end), longer});
  }
  const std::string high = std::to_string(*max);
  const auto high_size = static_cast<int>(high.size());
  if (low_size == high_size) return SameLength(low, high);
  std::vector<ExprId> choices = {SameLength(low, low_end)};
  if (low_size + 1 < high_size) {
    choices.push_back(rules_.Sequence({rules_.Byte('1', '9'), Digits(low_size, high_size - 2)}));
  }
  std::string high_begin(high.size(), '0');  // the first that is as long
  high_begin[0] = '1';
  choices.push_back(SameLength(high_begin, high));
  return rules_.Choice(std::move(choices));
}

namespace {

std::string KeyOf(std::string_view what, const NumberRange& range) {
  const auto bound = [](const std::optional<int64_t>& number, bool excluded) {
    return number ? fmt::format("{}{}", excluded ? "beyond " : "", *number) : std::string("any");
  };
  return fmt::format("{} from {} to {}", what, bound(range.min, range.min_excluded),
                     bound(range.max, range.max_excluded));
}

}  // namespace

ExprId JsonRules::IntegerIn(const NumberRange& range) {
  const std::string key = KeyOf("integer", range);
  const auto it = once_.find(key);
  return it != once_.end() ? it->second : Once(key, MakeIntegerIn(range));
}

ExprId JsonRules::MakeIntegerIn(const NumberRange& range) {
  std::optional<int64_t> min = range.min, max = range.max;
  if (min && range.min_excluded) ++*min;
  if (max && range.max_excluded) --*max;
  std::vector<ExprId> choices;
  if (!max || *max >= 0) choices.push_back(NaturalIn(std::max<int64_t>(min.value_or(0), 0), max));
  if (!min || *min < 0) {
    // -n for n from 1 on: zero is written without a sign.
    const int64_t least = max && *max < 0 ? -*max : 1;
    const std::optional<int64_t> most = min ? std::optional(-*min) : std::nullopt;
    choices.push_back(rules_.Sequence({rules_.Literal("-"), NaturalIn(least, most)}));
  }
  return rules_.Choice(std::move(choices));
}

// Decimals from `min` >= 0 on.
ExprId JsonRules::FractionIn(int64_t min, bool min_excluded, std::optional<int64_t> max,
                             bool max_excluded) {
  const ExprId dot = rules_.Literal(".");
  const ExprId any = rules_.Optional(rules_.Sequence({dot, Digits(1, kUnbounded)}));
  const ExprId zeros =
      rules_.Optional(rules_.Sequence({dot, rules_.Repeat(rules_.Byte('0', '0'), 1, kUnbounded)}));
  const ExprId nonzero =
      rules_.Sequence({dot, Digits(0, kUnbounded), rules_.Byte('1', '9'), Digits(0, kUnbounded)});
  if (max && (*max < min || (*max == min && (min_excluded || max_excluded)))) {
    return rules_.Never();
  }
  std::vector<ExprId> choices;
  const ExprId first = rules_.Literal(std::to_string(min));
  if (max && *max == min) return rules_.Sequence({first, zeros});
  choices.push_back(rules_.Sequence({first, min_excluded ? nonzero : any}));
  const std::optional<int64_t> last = max ? std::optional(*max - 1) : std::nullopt;
  choices.push_back(rules_.Sequence({NaturalIn(min + 1, last), any}));
  if (max && !max_excluded) {
    choices.push_back(rules_.Sequence({rules_.Literal(std::to_string(*max)), zeros}));
  }
  return rules_.Choice(std::move(choices));
}

ExprId JsonRules::NumberIn(const NumberRange& range) {
  if (!range.min && !range.max) return Number();
  const std::string key = KeyOf("number", range);
  const auto it = once_.find(key);
  return it != once_.end() ? it->second : Once(key, MakeNumberIn(range));
}

ExprId JsonRules::MakeNumberIn(const NumberRange& range) {
  std::vector<ExprId> choices;
  if (!range.max || *range.max >= 0) {
    const bool above_zero = range.min && *range.min >= 0;
    choices.push_back(FractionIn(above_zero ? *range.min : 0, above_zero && range.min_excluded,
                                 range.max, range.max_excluded));
  }
  if (!range.min || *range.min < 0) {
    // -x for x > 0: mirrored bounds.
    const bool below_zero = range.max && *range.max < 0;
    const std::optional<int64_t> most = range.min ? std::optional(-*range.min) : std::nullopt;
    choices.push_back(
        rules_.Sequence({rules_.Literal("-"),
                         FractionIn(below_zero ? -*range.max : 0, !below_zero || range.max_excluded,
                                    most, range.min_excluded)}));
  }
  return rules_.Choice(std::move(choices));
}

}  // namespace tandem::grammar

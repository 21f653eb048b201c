#include "router/text/jinja_methods.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <span>

#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;
using M = JinjaMethod;
using Entry = std::pair<std::string_view, JinjaMethod>;

constexpr Entry kTextMethods[] = {
    {"capitalize", M::kCapitalize},
    {"casefold", M::kUnsupported},
    {"center", M::kUnsupported},
    {"count", M::kCount},
    {"encode", M::kUnsupported},
    {"endswith", M::kEndsWith},
    {"expandtabs", M::kUnsupported},
    {"find", M::kFind},
    {"format", M::kFormat},
    {"format_map", M::kUnsupported},
    {"index", M::kIndex},
    {"isalnum", M::kIsAlnum},
    {"isalpha", M::kIsAlpha},
    {"isascii", M::kUnsupported},
    {"isdecimal", M::kUnsupported},
    {"isdigit", M::kIsDigit},
    {"isidentifier", M::kUnsupported},
    {"islower", M::kIsLower},
    {"isnumeric", M::kUnsupported},
    {"isprintable", M::kUnsupported},
    {"isspace", M::kIsSpace},
    {"istitle", M::kUnsupported},
    {"isupper", M::kIsUpper},
    {"join", M::kJoin},
    {"ljust", M::kUnsupported},
    {"lower", M::kLower},
    {"lstrip", M::kLStrip},
    {"maketrans", M::kUnsupported},
    {"partition", M::kPartition},
    {"removeprefix", M::kRemovePrefix},
    {"removesuffix", M::kRemoveSuffix},
    {"replace", M::kReplace},
    {"rfind", M::kRFind},
    {"rindex", M::kUnsupported},
    {"rjust", M::kUnsupported},
    {"rpartition", M::kRPartition},
    {"rsplit", M::kRSplit},
    {"rstrip", M::kRStrip},
    {"split", M::kSplit},
    {"splitlines", M::kSplitLines},
    {"startswith", M::kStartsWith},
    {"strip", M::kStrip},
    {"swapcase", M::kUnsupported},
    {"title", M::kTitle},
    {"translate", M::kUnsupported},
    {"upper", M::kUpper},
    {"zfill", M::kUnsupported},
};
constexpr Entry kMapMethods[] = {
    {"clear", M::kChanges},  {"copy", M::kCopy},       {"fromkeys", M::kUnsupported},
    {"get", M::kGet},        {"items", M::kItems},     {"keys", M::kKeys},
    {"pop", M::kChanges},    {"popitem", M::kChanges}, {"setdefault", M::kChanges},
    {"update", M::kChanges}, {"values", M::kValues},
};
constexpr Entry kListMethods[] = {
    {"append", M::kChanges},  {"clear", M::kChanges},  {"copy", M::kCopy},
    {"count", M::kCount},     {"extend", M::kChanges}, {"index", M::kIndex},
    {"insert", M::kChanges},  {"pop", M::kChanges},    {"remove", M::kChanges},
    {"reverse", M::kChanges}, {"sort", M::kChanges},
};

M FindIn(std::span<const Entry> entries, std::string_view name) {
  for (const auto& [entry, method] : entries) {
    if (entry == name) return method;
  }
  return M::kNone;
}

// Arguments by parameter; undefined: not given.
StatusOr<Value::List> Bind(const JinjaEnv& env, const JinjaArguments& arguments, size_t required,
                           std::initializer_list<std::string_view> parameters) {
  Value::List bound(parameters.size());
  if (arguments.positional.size() > bound.size()) {
    return env.Error("a method is given {} arguments and takes {}", arguments.positional.size(),
                     bound.size());
  }
  std::copy(arguments.positional.begin(), arguments.positional.end(), bound.begin());
  size_t given = arguments.positional.size();
  for (const auto& [name, value] : arguments.keywords) {
    const auto* it = std::find(parameters.begin(), parameters.end(), name);
    if (it == parameters.end()) return env.Error("a method takes no argument '{}'", name);
    bound[static_cast<size_t>(it - parameters.begin())] = value;
    ++given;
  }
  if (given < required) return env.Error("a method lacks an argument");
  return bound;
}

bool Given(const Value& value) { return !value.is_undefined() && !value.is_none(); }

StatusOr<std::string> TextArgument(const JinjaEnv& env, const Value& value) {
  if (value.as_string() != nullptr) return *value.as_string();
  return env.Error("a method takes a string, not a value of kind {}", value.kind_name());
}

StatusOr<Value> TextList(JinjaEnv& env, const std::vector<std::string_view>& parts,
                         Value::Shape shape = Value::Shape::kList) {
  Value::List list;
  list.reserve(parts.size());
  size_t bytes = 0;
  for (const std::string_view part : parts) bytes += part.size() + sizeof(std::string);
  TANDEM_RETURN_IF_ERROR(env.Make(bytes));
  for (const std::string_view part : parts) list.emplace_back(std::string(part));
  return env.List(std::move(list), shape);
}

// --- strings

StatusOr<Value> StripMethod(JinjaEnv& env, const std::string& text, Side side,
                            const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {"chars"}));
  if (!Given(bound[0])) return env.Text(std::string(Strip(text, side)));
  TANDEM_ASSIGN_OR_RETURN(const std::string characters, TextArgument(env, bound[0]));
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size() * (1 + characters.size())));
  return env.Text(std::string(Strip(text, side, characters)));
}

StatusOr<Value> Split(JinjaEnv& env, const std::string& text, bool from_right,
                      const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {"sep", "maxsplit"}));
  const int64_t max = Given(bound[1]) ? bound[1].integer() : -1;
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
  if (!Given(bound[0])) {
    return TextList(env, from_right ? SplitSpaceFromRight(text, max) : SplitSpace(text, max));
  }
  TANDEM_ASSIGN_OR_RETURN(const std::string separator, TextArgument(env, bound[0]));
  if (separator.empty()) return env.Error("cannot split at an empty string");
  return TextList(
      env, from_right ? SplitAtFromRight(text, separator, max) : SplitAt(text, separator, max));
}

StatusOr<Value> Partition(JinjaEnv& env, const std::string& text, bool from_right,
                          const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"sep"}));
  TANDEM_ASSIGN_OR_RETURN(const std::string separator, TextArgument(env, bound[0]));
  if (separator.empty()) return env.Error("cannot split at an empty string");
  auto parts = from_right ? SplitAtFromRight(text, separator, 1) : SplitAt(text, separator, 1);
  if (parts.size() == 2) {
    parts.insert(parts.begin() + 1, separator);
  } else {
    parts.resize(3);
    if (from_right) std::swap(parts[0], parts[2]);
  }
  return TextList(env, parts, Value::Shape::kTuple);
}

// Also of any of a tuple.
StatusOr<Value> BeginsOrEnds(JinjaEnv& env, const std::string& text, bool ends,
                             const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"prefix"}));
  const bool is_tuple = bound[0].as_list() != nullptr && bound[0].shape() == Value::Shape::kTuple;
  const Value::List candidates = is_tuple ? *bound[0].as_list() : Value::List{bound[0]};
  for (const Value& candidate : candidates) {
    TANDEM_ASSIGN_OR_RETURN(const std::string affix, TextArgument(env, candidate));
    if (ends ? text.ends_with(affix) : text.starts_with(affix)) return Value(true);
  }
  return Value(false);
}

StatusOr<Value> RemoveAffix(JinjaEnv& env, const std::string& text, bool suffix,
                            const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"prefix"}));
  TANDEM_ASSIGN_OR_RETURN(const std::string affix, TextArgument(env, bound[0]));
  std::string_view rest = text;
  if (suffix && rest.ends_with(affix)) rest.remove_suffix(affix.size());
  if (!suffix && rest.starts_with(affix)) rest.remove_prefix(affix.size());
  return env.Text(std::string(rest));
}

StatusOr<Value> Position(JinjaEnv& env, const std::string& text, M method,
                         const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"sub"}));
  TANDEM_ASSIGN_OR_RETURN(const std::string needle, TextArgument(env, bound[0]));
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
  if (method == M::kCount) return Value(CountText(text, needle));
  size_t at = FindText(text, needle);
  if (method == M::kRFind && at != std::string::npos) {
    at = needle.empty() ? text.size() : SplitAtFromRight(text, needle, 1)[0].size();
  }
  if (at != std::string::npos) return Value(NumCharacters(std::string_view(text).substr(0, at)));
  if (method == M::kIndex) return env.Error("'index' does not find the string");
  return Value(int64_t{-1});
}

StatusOr<Value> Replace(JinjaEnv& env, const std::string& text, const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound,
                          Bind(env, arguments, 2, {"old", "new", "count"}));
  TANDEM_ASSIGN_OR_RETURN(const std::string old, TextArgument(env, bound[0]));
  TANDEM_ASSIGN_OR_RETURN(const std::string replacement, TextArgument(env, bound[1]));
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
  const auto found = static_cast<size_t>(CountText(text, old));
  TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(found)));
  TANDEM_RETURN_IF_ERROR(env.Make(text.size() + found * replacement.size()));
  return Value(ReplaceText(text, old, replacement, Given(bound[2]) ? bound[2].integer() : -1));
}

StatusOr<Value> JoinMethod(JinjaEnv& env, const std::string& separator,
                           const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"iterable"}));
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].as_string() == nullptr) {
      return env.Error("'join' takes strings, not a value of kind {}", items[i].kind_name());
    }
    TANDEM_RETURN_IF_ERROR(env.Make(separator.size() + items[i].as_string()->size()));
    if (i > 0) out += separator;
    out += *items[i].as_string();
  }
  return Value(std::move(out));
}

// {} {0} {name}; a conversion or format after it is refused.
StatusOr<Value> Format(JinjaEnv& env, const std::string& format, const JinjaArguments& arguments) {
  std::string out;
  size_t next = 0;
  for (size_t at = 0; at < format.size(); ++at) {
    const char c = format[at];
    if (c != '{' && c != '}') {
      out.push_back(c);
      continue;
    }
    if (at + 1 < format.size() && format[at + 1] == c) {
      out.push_back(format[at++]);
      continue;
    }
    const size_t end = c == '}' ? std::string::npos : format.find('}', at);
    if (end == std::string::npos) return env.Error("'format' finds a single '{}'", c);
    const std::string name = format.substr(at + 1, end - at - 1);
    const bool is_index = name.empty() || (IsAll(name, CharClass::kDigit) && name.size() < 6);
    const size_t index = name.empty() ? next++ : is_index ? std::stoul(name) : 0;
    const Value* value = is_index && index < arguments.positional.size()
                             ? &arguments.positional[index]
                             : Find(arguments.keywords, name);
    if (value == nullptr) return env.Error("'format' has nothing for '{{{}}}'", name);
    TANDEM_RETURN_IF_ERROR(Print(env, *value, out));
    at = end;
  }
  return env.Text(std::move(out));
}

StatusOr<Value> Case(JinjaEnv& env, const std::string& text, M method,
                     const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {}));
  switch (method) {
    case M::kUpper:
      return env.Text(Upper(text));
    case M::kLower:
      return env.Text(Lower(text));
    case M::kTitle:
      return env.Text(TitleMethod(text));
    default:
      return env.Text(Capitalize(text));
  }
}

StatusOr<Value> ClassOf(JinjaEnv& env, const std::string& text, M method,
                        const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {}));
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
  constexpr std::pair<M, CharClass> kClasses[] = {
      {M::kIsAlnum, CharClass::kAlnum}, {M::kIsAlpha, CharClass::kAlpha},
      {M::kIsDigit, CharClass::kDigit}, {M::kIsLower, CharClass::kLower},
      {M::kIsSpace, CharClass::kSpace}, {M::kIsUpper, CharClass::kUpper}};
  const auto* it = std::find_if(std::begin(kClasses), std::end(kClasses),
                                [&](const auto& entry) { return entry.first == method; });
  return Value(IsAll(text, it->second));
}

StatusOr<Value> CallText(JinjaEnv& env, const std::string& text, M method,
                         const JinjaArguments& arguments) {
  switch (method) {
    case M::kStrip:
      return StripMethod(env, text, Side::kBoth, arguments);
    case M::kLStrip:
      return StripMethod(env, text, Side::kLeft, arguments);
    case M::kRStrip:
      return StripMethod(env, text, Side::kRight, arguments);
    case M::kSplit:
    case M::kRSplit:
      return Split(env, text, method == M::kRSplit, arguments);
    case M::kPartition:
    case M::kRPartition:
      return Partition(env, text, method == M::kRPartition, arguments);
    case M::kStartsWith:
    case M::kEndsWith:
      return BeginsOrEnds(env, text, method == M::kEndsWith, arguments);
    case M::kRemovePrefix:
    case M::kRemoveSuffix:
      return RemoveAffix(env, text, method == M::kRemoveSuffix, arguments);
    case M::kFind:
    case M::kRFind:
    case M::kIndex:
    case M::kCount:
      return Position(env, text, method, arguments);
    case M::kReplace:
      return Replace(env, text, arguments);
    case M::kJoin:
      return JoinMethod(env, text, arguments);
    case M::kFormat:
      return Format(env, text, arguments);
    case M::kSplitLines: {
      TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {"keepends"}));
      TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
      return TextList(env, SplitLines(text, bound[0].Truthy()));
    }
    case M::kUpper:
    case M::kLower:
    case M::kTitle:
    case M::kCapitalize:
      return Case(env, text, method, arguments);
    default:
      return ClassOf(env, text, method, arguments);
  }
}

// --- maps and lists

StatusOr<Value> Get(JinjaEnv& env, const Value::Map& map, const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"key", "default"}));
  TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(map.size() / 16)));
  const std::optional<std::string> key = KeyOf(bound[0]);
  if (const Value* value = key ? Find(map, *key) : nullptr) return *value;
  const bool has_default = arguments.positional.size() + arguments.keywords.size() > 1;
  return has_default ? bound[1] : Value(Value::None{});
}

StatusOr<Value> View(JinjaEnv& env, const Value::Map& map, M method) {
  Value::List list;
  list.reserve(map.size());
  TANDEM_RETURN_IF_ERROR(env.MakeItems(4 * map.size()));
  for (const auto& [key, value] : map) {
    if (method == M::kItems) {
      list.emplace_back(Value::List{ValueOfKey(key), value}, Value::Shape::kTuple);
    } else {
      list.push_back(method == M::kKeys ? ValueOfKey(key) : value);
    }
  }
  return env.List(std::move(list), Value::Shape::kView);
}

StatusOr<Value> CallMap(JinjaEnv& env, const Value& object, M method,
                        const JinjaArguments& arguments) {
  if (method == M::kGet) return Get(env, *object.as_map(), arguments);
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 0, {}));
  if (method == M::kCopy) return object;
  return View(env, *object.as_map(), method);
}

StatusOr<Value> CallList(JinjaEnv& env, const Value& object, M method,
                         const JinjaArguments& arguments) {
  if (method == M::kCopy) return object;
  TANDEM_ASSIGN_OR_RETURN(const Value::List bound, Bind(env, arguments, 1, {"value"}));
  int64_t count = 0;
  for (size_t i = 0; i < object.as_list()->size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const bool equal, Equal(env, (*object.as_list())[i], bound[0]));
    if (equal && method == M::kIndex) return Value(static_cast<int64_t>(i));
    count += equal ? 1 : 0;
  }
  if (method == M::kIndex) return env.Error("'index' does not find the value");
  return Value(count);
}

}  // namespace

JinjaMethod MethodOf(const JinjaValue& object, std::string_view name) {
  if (object.as_string() != nullptr) return FindIn(kTextMethods, name);
  if (object.as_map() != nullptr) return FindIn(kMapMethods, name);
  if (object.as_list() == nullptr || object.shape() == Value::Shape::kView) return M::kNone;
  const M method = FindIn(kListMethods, name);
  const bool is_list = object.shape() == Value::Shape::kList;
  return is_list || method == M::kCount || method == M::kIndex ? method : M::kNone;
}

bool IsUnsupportedMethod(std::string_view name) {
  return FindIn(kTextMethods, name) == M::kUnsupported ||
         FindIn(kMapMethods, name) == M::kUnsupported;
}

StatusOr<JinjaValue> CallMethod(JinjaEnv& env, const JinjaValue& object, JinjaMethod method,
                                const JinjaArguments& arguments) {
  if (method == M::kUnsupported) return env.Error("this method of Python's is not supported");
  if (object.as_string() != nullptr) return CallText(env, *object.as_string(), method, arguments);
  if (object.as_map() != nullptr) return CallMap(env, object, method, arguments);
  return CallList(env, object, method, arguments);
}

}  // namespace tandem::text

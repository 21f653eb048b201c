#include "router/text/jinja_functions.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

constexpr int64_t kMaxRange = 100'000;  // as Jinja's sandbox

StatusOr<Value> Range(JinjaEnv& env, const JinjaArguments& arguments) {
  const Value::List& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.keywords.empty()) {
    return env.Error("range takes 1 to 3 integers");
  }
  for (const Value& bound : given) {
    if (!bound.is_number() || bound.as_float() != nullptr) {
      return env.Error("range takes integers, not a value of kind {}", bound.kind_name());
    }
  }
  const int64_t begin = given.size() > 1 ? given[0].integer() : 0;
  const int64_t end = given[given.size() > 1 ? 1 : 0].integer();
  const int64_t step = given.size() > 2 ? given[2].integer() : 1;
  if (step == 0) return env.Error("the step of range is 0");
  Value::List items;
  for (int64_t at = begin; step > 0 ? at < end : at > end;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      return env.Error("a range of more than {} numbers", kMaxRange);
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return env.List(std::move(items), Value::Shape::kRange);
}

// Of dict() and namespace(): a map or pairs, then named ones.
StatusOr<Value::Map> Entries(JinjaEnv& env, const JinjaArguments& arguments) {
  Value::Map map;
  if (arguments.positional.size() > 1) return env.Error("dict takes at most one argument");
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    if (from.as_map() != nullptr) {
      TANDEM_RETURN_IF_ERROR(env.MakeItems(2 * from.as_map()->size()));
      map = *from.as_map();
    } else {
      TANDEM_ASSIGN_OR_RETURN(const Value::List pairs, Iterate(env, from));
      for (const Value& pair : pairs) {
        const Value::List* two = pair.as_list();
        const bool is_pair = two != nullptr && two->size() == 2;
        const std::optional<std::string> key = is_pair ? KeyOf((*two)[0]) : std::nullopt;
        if (!key) return env.Error("dict takes pairs of a key and a value");
        TANDEM_RETURN_IF_ERROR(env.Work(1 + static_cast<int64_t>(map.size() / 16)));
        Assign(map, *key, (*two)[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.keywords) {
    TANDEM_RETURN_IF_ERROR(env.Work(1 + static_cast<int64_t>(map.size() / 16)));
    Assign(map, name, value);
  }
  return map;
}

// A namespace that could reach another one would allow cycles and endless chains. Macros reach
// nothing; iterators are walked once and may be kept until then.
bool CanBeHeld(const Value& value) {
  if (!value.holds_objects() || As<JinjaMacro>(value) != nullptr) return true;
  const auto* iterator = As<JinjaIterator>(value);
  return iterator != nullptr &&
         std::none_of(iterator->items.begin(), iterator->items.end(),
                      [](const Value& item) { return item.holds_objects(); });
}

Status CheckEntry(JinjaEnv& env, std::string_view name, const Value& value) {
  if (name.starts_with('_')) {
    return env.Error("a namespace cannot hold '{}': it begins with an underscore", name);
  }
  if (CanBeHeld(value)) return OkStatus();
  return env.Error("a namespace cannot hold a value of kind {}", value.kind_name());
}

StatusOr<Value> Namespace(JinjaEnv& env, const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(Value::Map entries, Entries(env, arguments));
  for (const auto& [name, value] : entries) {
    TANDEM_RETURN_IF_ERROR(CheckEntry(env, name, value));
  }
  auto space = std::make_shared<JinjaNamespace>();
  space->attributes = std::move(entries);
  return Value(std::move(space));
}

StatusOr<Value> TheOnly(JinjaEnv& env, const JinjaArguments& arguments, std::string_view name) {
  if (arguments.positional.size() == 1 && arguments.keywords.empty())
    return arguments.positional[0];
  if (arguments.positional.empty() && arguments.keywords.size() == 1 &&
      arguments.keywords[0].first == name) {
    return arguments.keywords[0].second;
  }
  return env.Error("a function takes one argument, '{}'", name);
}

StatusOr<Value> RaiseException(JinjaEnv& env, const JinjaArguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value value, TheOnly(env, arguments, "message"));
  TANDEM_ASSIGN_OR_RETURN(const std::string message, Str(env, value));
  return env.ErrorWith(message);
}

StatusOr<Value> StrftimeNow(JinjaEnv& env, const JinjaArguments& arguments, const std::tm& now) {
  TANDEM_ASSIGN_OR_RETURN(const Value value, TheOnly(env, arguments, "format"));
  const std::string* format = value.as_string();
  if (format == nullptr || format->size() > 256 || format->find('\0') != std::string::npos) {
    return env.Error("strftime_now takes a format of at most 256 bytes");
  }
  std::array<char, 1024> buffer;
  // The end of the format tells an empty result from one that does not fit.
  const size_t size = std::strftime(buffer.data(), buffer.size(), (*format + ".").c_str(), &now);
  if (size == 0) return env.Error("strftime_now makes more than 1 kB");
  return env.Text(std::string(buffer.data(), size - 1));
}

}  // namespace

StatusOr<Value> CallFunction(JinjaEnv& env, JinjaFunctionId function,
                             const JinjaArguments& arguments, const std::tm& now) {
  switch (function) {
    case JinjaFunctionId::kRange:
      return Range(env, arguments);
    case JinjaFunctionId::kNamespace:
      return Namespace(env, arguments);
    case JinjaFunctionId::kDict: {
      TANDEM_ASSIGN_OR_RETURN(Value::Map map, Entries(env, arguments));
      return env.Map(std::move(map));
    }
    case JinjaFunctionId::kRaiseException:
      return RaiseException(env, arguments);
    case JinjaFunctionId::kStrftimeNow:
      break;
  }
  return StrftimeNow(env, arguments, now);
}

Status AssignAttribute(JinjaEnv& env, const Value& object, std::string_view name, Value value) {
  auto* space = As<JinjaNamespace>(object);
  if (space == nullptr) {
    return env.Error("cannot assign to '{}' of a value of kind {}", name, object.kind_name());
  }
  TANDEM_RETURN_IF_ERROR(CheckEntry(env, name, value));
  TANDEM_RETURN_IF_ERROR(env.Work(1 + static_cast<int64_t>(space->attributes.size() / 16)));
  Assign(space->attributes, name, std::move(value));
  return OkStatus();
}

}  // namespace tandem::text

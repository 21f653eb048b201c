// Filters that apply a filter or a test to each item: they give iterators, as in Jinja.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;
using Arguments = JinjaFilterArguments;

// Parameters without a name in Python have one here that no keyword is.
constexpr size_t kAttribute = 4, kDefault = 5;  // named arguments of `map`

// In Jinja none, and whatever else is false, is as good as an empty list.
StatusOr<Value::List> ItemsOf(JinjaEnv& env, const Value& input) {
  if (!input.Truthy()) return Value::List();
  return Iterate(env, input);
}

StatusOr<Value> AttributeAt(JinjaEnv& env, Value item, const Value& path) {
  const std::string* text = path.as_string();
  if (text == nullptr) return Item(env, item, path);
  for (const std::string_view part : SplitAt(*text, ".", -1)) {
    TANDEM_ASSIGN_OR_RETURN(item, Item(env, item, Value(std::string(part))));
  }
  return item;
}

StatusOr<Value> MapAttribute(JinjaEnv& env, const Value::List& items, const Arguments& arguments) {
  Value::List out;
  for (const Value& item : items) {
    TANDEM_ASSIGN_OR_RETURN(Value value, AttributeAt(env, item, arguments[kAttribute]));
    if (value.is_undefined() && !arguments[kDefault].is_none()) value = arguments[kDefault];
    out.push_back(std::move(value));
  }
  return Value(std::make_shared<JinjaIterator>(std::move(out)));
}

StatusOr<Value> Map(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, ItemsOf(env, input));
  if (!arguments[kAttribute].is_undefined()) return MapAttribute(env, items, arguments);
  const std::string* name = arguments[0].as_string();
  const JinjaFilter* filter = name == nullptr ? nullptr : FindFilter(*name);
  if (filter == nullptr) return env.Error("'map' is given no filter that is known");
  Arguments rest;
  for (size_t i = 1; i < kAttribute; ++i) rest[i - 1] = arguments[i];
  Value::List out;
  for (const Value& item : items) {
    TANDEM_RETURN_IF_ERROR(env.Work());
    TANDEM_ASSIGN_OR_RETURN(Value value, filter->run(env, item, rest));
    out.push_back(std::move(value));
  }
  return Value(std::make_shared<JinjaIterator>(std::move(out)));
}

template <bool kByAttribute, bool kSelects>
StatusOr<Value> Select(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, ItemsOf(env, input));
  const Value& name = arguments[kByAttribute ? 1 : 0];
  const Value& argument = arguments[kByAttribute ? 2 : 1];
  const JinjaTest* test = name.as_string() == nullptr ? nullptr : FindTest(*name.as_string());
  if (test == nullptr && !name.is_undefined()) return env.Error("there is no such test");
  Value::List out;
  for (const Value& item : items) {
    TANDEM_RETURN_IF_ERROR(env.Work());
    Value value = item;
    if (kByAttribute) {
      TANDEM_ASSIGN_OR_RETURN(value, AttributeAt(env, item, arguments[0]));
    }
    bool passes = value.Truthy();
    if (test != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(passes, test->run(env, value, argument));
    }
    if (passes == kSelects) out.push_back(item);
  }
  return Value(std::make_shared<JinjaIterator>(std::move(out)));
}

constexpr std::array kFilters = {
    JinjaFilter{"map", 0, {"#1", "#2", "#3", "#4", "attribute", "default"}, Map},
    JinjaFilter{"select", 0, {"#1", "#2"}, Select<false, true>},
    JinjaFilter{"reject", 0, {"#1", "#2"}, Select<false, false>},
    JinjaFilter{"selectattr", 1, {"#1", "#2", "#3"}, Select<true, true>},
    JinjaFilter{"rejectattr", 1, {"#1", "#2", "#3"}, Select<true, false>},
};

}  // namespace

std::span<const JinjaFilter> SelectionFilters() { return kFilters; }

}  // namespace tandem::text

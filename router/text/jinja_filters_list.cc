// Filters over lists and maps.
#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <string>
#include <utility>

#include "router/text/jinja_filters.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_print.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;
using Arguments = JinjaFilterArguments;

bool Given(const Value& argument) { return !argument.is_undefined() && !argument.is_none(); }

StatusOr<Value> Default(JinjaEnv&, const Value& input, const Arguments& arguments) {
  const bool empty = arguments[1].Truthy() && !input.Truthy();
  if (!input.is_undefined() && !empty) return input;
  return arguments[0].is_undefined() ? Value(std::string()) : arguments[0];
}

StatusOr<Value> ToList(JinjaEnv& env, const Value& input, const Arguments&) {
  TANDEM_ASSIGN_OR_RETURN(Value::List items, Iterate(env, input));
  return Value(std::move(items));
}

StatusOr<Value> First(JinjaEnv& env, const Value& input, const Arguments&) {
  if (auto* iterator = As<JinjaIterator>(input)) {
    if (iterator->next == iterator->items.size()) return Value();
    return iterator->items[iterator->next++];
  }
  if (input.as_list() != nullptr)
    return input.as_list()->empty() ? Value() : input.as_list()->front();
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  return items.empty() ? Value() : items.front();
}

StatusOr<Value> Last(JinjaEnv& env, const Value& input, const Arguments&) {
  if (input.as_object() != nullptr) {
    return env.Error("'last' does not take a value of kind {}", input.kind_name());
  }
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  return items.empty() ? Value() : items.back();
}

Value Iterator(Value::List items) {
  return Value(std::make_shared<JinjaIterator>(std::move(items)));
}

StatusOr<Value> Items(JinjaEnv& env, const Value& input, const Arguments&) {
  if (input.is_undefined()) return Iterator({});
  const Value::Map* map = input.as_map();
  if (map == nullptr)
    return env.Error("'items' takes a map, not a value of kind {}", input.kind_name());
  TANDEM_RETURN_IF_ERROR(env.MakeItems(4 * map->size()));
  Value::List pairs;
  for (const auto& [key, value] : *map) {
    pairs.emplace_back(Value::List{ValueOfKey(key), value}, Value::Shape::kTuple);
  }
  return Iterator(std::move(pairs));
}

StatusOr<Value> Reverse(JinjaEnv& env, const Value& input, const Arguments&) {
  TANDEM_ASSIGN_OR_RETURN(Value::List items, Iterate(env, input));
  std::reverse(items.begin(), items.end());
  if (input.as_string() == nullptr) return Iterator(std::move(items));
  std::string text;
  for (const Value& item : items) text += *item.as_string();
  return env.Text(std::move(text));
}

StatusOr<Value> IgnoreCase(JinjaEnv& env, const Value& value) {
  if (value.as_string() == nullptr) return value;
  return env.Text(Lower(*value.as_string()));
}

// item['a']['b'] for "a.b"; numbers in it are indices.
StatusOr<Value> ItemAt(JinjaEnv& env, Value item, const Value& path) {
  const std::string* text = path.as_string();
  if (text == nullptr) return Item(env, item, path);
  for (const std::string_view part : SplitAt(*text, ".", -1)) {
    int64_t index = 0;
    const auto result = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool is_index = IsAll(part, CharClass::kDigit) && result.ec == std::errc();
    const Value key = is_index ? Value(index) : Value(std::string(part));
    TANDEM_ASSIGN_OR_RETURN(item, Item(env, item, key));
  }
  return item;
}

// What `sort`, `unique`, `min` and `max` compare: the item, or an attribute of it.
StatusOr<Value> SortKey(JinjaEnv& env, const Value& item, const Value& path, bool case_sensitive) {
  Value key = item;
  if (Given(path)) {
    TANDEM_ASSIGN_OR_RETURN(key, ItemAt(env, item, path));
  }
  if (case_sensitive) return key;
  return IgnoreCase(env, key);
}

// Several attributes may be named, with commas between them.
StatusOr<Value> SortKeys(JinjaEnv& env, const Value& item, const Value& paths,
                         bool case_sensitive) {
  if (paths.as_string() == nullptr || paths.as_string()->find(',') == std::string::npos) {
    return SortKey(env, item, paths, case_sensitive);
  }
  Value::List keys;
  for (const std::string_view path : SplitAt(*paths.as_string(), ",", -1)) {
    TANDEM_ASSIGN_OR_RETURN(Value key,
                            SortKey(env, item, Value(std::string(path)), case_sensitive));
    keys.push_back(std::move(key));
  }
  return env.List(std::move(keys));
}

StatusOr<Value> Sort(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  Value::List keys;
  for (const Value& item : items) {
    TANDEM_ASSIGN_OR_RETURN(Value key, SortKeys(env, item, arguments[2], arguments[1].Truthy()));
    keys.push_back(std::move(key));
  }
  TANDEM_ASSIGN_OR_RETURN(Value::List sorted, SortBy(env, items, keys, arguments[0].Truthy()));
  return Value(std::move(sorted));
}

StatusOr<Value> DictSort(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  const Value::Map* map = input.as_map();
  if (map == nullptr)
    return env.Error("'dictsort' takes a map, not a value of kind {}", input.kind_name());
  const std::string* by = arguments[1].as_string();
  if (by != nullptr && *by != "key" && *by != "value") {
    return env.Error("'dictsort' sorts by 'key' or 'value'");
  }
  TANDEM_RETURN_IF_ERROR(env.MakeItems(4 * map->size()));
  Value::List pairs, keys;
  for (const auto& [name, value] : *map) {
    pairs.emplace_back(Value::List{ValueOfKey(name), value}, Value::Shape::kTuple);
    const Value& key = (*pairs.back().as_list())[by != nullptr && *by == "value" ? 1 : 0];
    TANDEM_ASSIGN_OR_RETURN(Value sort_key, SortKey(env, key, Value(), arguments[0].Truthy()));
    keys.push_back(std::move(sort_key));
  }
  TANDEM_ASSIGN_OR_RETURN(Value::List sorted, SortBy(env, pairs, keys, arguments[2].Truthy()));
  return Value(std::move(sorted));
}

StatusOr<Value> Unique(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  Value::List unique, keys;
  for (const Value& item : items) {
    TANDEM_ASSIGN_OR_RETURN(Value key, SortKey(env, item, arguments[1], arguments[0].Truthy()));
    bool seen = false;
    for (size_t i = 0; i < keys.size() && !seen; ++i) {
      TANDEM_ASSIGN_OR_RETURN(seen, Equal(env, keys[i], key));
    }
    if (seen) continue;
    keys.push_back(std::move(key));
    unique.push_back(item);
  }
  return Iterator(std::move(unique));
}

// The first of those that `op` puts before all others.
template <JinjaOp kOp>
StatusOr<Value> Extreme(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  Value best, best_key;
  for (size_t i = 0; i < items.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(Value key, SortKey(env, items[i], arguments[1], arguments[0].Truthy()));
    bool better = true;
    if (i > 0) {
      TANDEM_ASSIGN_OR_RETURN(better, Compare(env, kOp, key, best_key));
    }
    if (!better) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

// In pieces of that many items; the last is filled up if `fill_with` is given.
StatusOr<Value> Batch(JinjaEnv& env, const Value& input, const Arguments& arguments) {
  TANDEM_ASSIGN_OR_RETURN(const Value::List items, Iterate(env, input));
  const int64_t size = arguments[0].integer();
  if (size < 1 || size > 100'000) return env.Error("'batch' takes 1 to 100000 items");
  Value::List batches, batch;
  for (const Value& item : items) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    batches.emplace_back(std::exchange(batch, {}));
  }
  if (!batch.empty()) {
    if (Given(arguments[1])) {
      TANDEM_RETURN_IF_ERROR(env.MakeItems(static_cast<size_t>(size)));
      batch.resize(static_cast<size_t>(size), arguments[1]);
    }
    batches.emplace_back(std::move(batch));
  }
  TANDEM_ASSIGN_OR_RETURN(const Value list, env.List(std::move(batches)));
  return Iterator(*list.as_list());
}

constexpr std::array kFilters = {
    JinjaFilter{"default", 0, {"default_value", "boolean"}, Default},
    JinjaFilter{"d", 0, {"default_value", "boolean"}, Default},
    JinjaFilter{"list", 0, {}, ToList},
    JinjaFilter{"first", 0, {}, First},
    JinjaFilter{"last", 0, {}, Last},
    JinjaFilter{"items", 0, {}, Items},
    JinjaFilter{"reverse", 0, {}, Reverse},
    JinjaFilter{"sort", 0, {"reverse", "case_sensitive", "attribute"}, Sort},
    JinjaFilter{"dictsort", 0, {"case_sensitive", "by", "reverse"}, DictSort},
    JinjaFilter{"unique", 0, {"case_sensitive", "attribute"}, Unique},
    JinjaFilter{"min", 0, {"case_sensitive", "attribute"}, Extreme<JinjaOp::kLess>},
    JinjaFilter{"max", 0, {"case_sensitive", "attribute"}, Extreme<JinjaOp::kGreater>},
    JinjaFilter{"batch", 1, {"linecount", "fill_with"}, Batch},
};

}  // namespace

std::span<const JinjaFilter> ListFilters() { return kFilters; }

}  // namespace tandem::text

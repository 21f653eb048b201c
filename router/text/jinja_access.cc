// Items, attributes and slices.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "common/tokenizer/utf8.h"
#include "router/text/jinja_objects.h"
#include "router/text/jinja_operators.h"
#include "router/text/jinja_text.h"

namespace tandem::text {
namespace {

using Value = JinjaValue;

// Of a character, counted from the end if negative; null text: there is none.
StatusOr<Value> Character(JinjaEnv& env, const std::string& text, int64_t index) {
  TANDEM_RETURN_IF_ERROR(env.Scan(text.size()));
  if (index < 0) index += NumCharacters(text);
  if (index < 0) return Value();
  const size_t begin = ByteOffset(text, index);
  if (begin >= text.size()) return Value();
  return Value(text.substr(begin, ReadCodePoint(text, begin).size));
}

StatusOr<Value> LoopAttribute(const JinjaLoop& loop, std::string_view name) {
  const auto size = static_cast<int64_t>(loop.items().size());
  const int64_t at = loop.index0;
  const auto item = [&](int64_t i) {
    return i < 0 || i >= size ? Value() : loop.items()[static_cast<size_t>(i)];
  };
  if (name == "index0") return Value(at);
  if (name == "index") return Value(at + 1);
  if (name == "first") return Value(at == 0);
  if (name == "last") return Value(at == size - 1);
  if (name == "length") return Value(size);
  if (name == "revindex") return Value(size - at);
  if (name == "revindex0") return Value(size - at - 1);
  if (name == "previtem") return item(at - 1);
  if (name == "nextitem") return item(at + 1);
  if (name == "depth0") return Value(int64_t{0});  // of recursive loops, which are refused
  if (name == "depth") return Value(int64_t{1});
  return Value();
}

StatusOr<Value> ObjectAttribute(const Value& object, std::string_view name) {
  if (const auto* space = As<JinjaNamespace>(object)) {
    const Value* value = Find(space->attributes, name);
    return value == nullptr ? Value() : *value;
  }
  if (const auto* loop = As<JinjaLoop>(object)) return LoopAttribute(*loop, name);
  const auto* macro = As<JinjaMacro>(object);
  if (macro != nullptr && name == "name") return Value(macro->body->name);
  return Value();
}

Status OfUndefined(const JinjaEnv& env, std::string_view name) {
  return env.Error("cannot take '{}' of an undefined value", name);
}

// The part of Python's getattr() that a template can reach: undefined if there is none.
StatusOr<Value> Method(JinjaEnv& env, const Value& object, std::string_view name) {
  const JinjaMethod method = MethodOf(object, name);
  if (method == JinjaMethod::kNone || method == JinjaMethod::kChanges) return Value();
  Value bound(std::make_shared<JinjaBoundMethod>(object, method));
  TANDEM_RETURN_IF_ERROR(env.CheckDepth(bound));
  return bound;
}

// Python's slice.indices(): where to begin, and how many items to take.
struct Range {
  int64_t begin = 0, count = 0, step = 1;
};

StatusOr<Range> ReadRange(JinjaEnv& env, std::span<const Value> bounds, int64_t size) {
  Range range;
  for (const Value& bound : bounds) {
    if (bound.is_none() || (bound.is_number() && bound.as_float() == nullptr)) continue;
    return env.Error("a slice takes integers, not a value of kind {}", bound.kind_name());
  }
  if (!bounds[2].is_none()) range.step = bounds[2].integer();
  if (range.step == 0) return env.Error("the step of a slice is 0");
  const bool forward = range.step > 0;
  const int64_t low = forward ? 0 : -1, high = forward ? size : size - 1;
  const auto clamp = [&](const Value& bound, int64_t otherwise) {
    if (bound.is_none()) return otherwise;
    int64_t at = bound.integer();
    if (at < 0) at += size;
    return std::clamp(at, low, high);
  };
  range.begin = clamp(bounds[0], forward ? low : high);
  const int64_t end = clamp(bounds[1], forward ? high : low);
  const int64_t span = forward ? end - range.begin : range.begin - end;
  // The step may be the smallest integer, whose absolute value is not one.
  const uint64_t stride =
      forward ? static_cast<uint64_t>(range.step) : ~static_cast<uint64_t>(range.step) + 1;
  if (span > 0) range.count = static_cast<int64_t>((static_cast<uint64_t>(span) - 1) / stride) + 1;
  return range;
}

std::string SliceText(const std::string& text, const Range& range) {
  if (range.step == 1) {
    const size_t begin = ByteOffset(text, range.begin);
    const std::string_view rest = std::string_view(text).substr(begin);
    return std::string(rest.substr(0, ByteOffset(rest, range.count)));
  }
  std::vector<std::string_view> characters;
  for (size_t at = 0; at < text.size();) {
    const size_t size = ReadCodePoint(text, at).size;
    characters.push_back(std::string_view(text).substr(at, size));
    at += size;
  }
  std::string out;
  for (int64_t i = 0, at = range.begin; i < range.count; ++i) {
    if (at >= 0 && at < static_cast<int64_t>(characters.size())) {
      out += characters[static_cast<size_t>(at)];
    }
    if (i + 1 < range.count) at += range.step;
  }
  return out;
}

}  // namespace

StatusOr<Value> Item(JinjaEnv& env, const Value& object, const Value& key) {
  const std::string* name = key.as_string();
  if (object.is_undefined()) return OfUndefined(env, name != nullptr ? *name : "an item");
  if (const Value::Map* map = object.as_map()) {
    TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(map->size() / 16)));
    const std::optional<std::string> other = name == nullptr ? KeyOf(key) : std::nullopt;
    if (name == nullptr && !other) return Value();
    if (const Value* value = Find(*map, name == nullptr ? *other : *name)) return *value;
  }
  if (name != nullptr) {
    if (object.as_object() != nullptr) return ObjectAttribute(object, *name);
    return Method(env, object, *name);
  }
  if (!key.is_number() || key.as_float() != nullptr) return Value();
  int64_t index = key.integer();
  if (const std::string* text = object.as_string()) return Character(env, *text, index);
  const Value::List* list = object.as_list();
  if (list == nullptr || object.shape() == Value::Shape::kView) return Value();
  const auto size = static_cast<int64_t>(list->size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? Value() : (*list)[static_cast<size_t>(index)];
}

StatusOr<Value> Attribute(JinjaEnv& env, const Value& object, std::string_view name) {
  if (object.is_undefined()) return OfUndefined(env, name);
  if (object.as_object() != nullptr) return ObjectAttribute(object, name);
  const JinjaMethod method = MethodOf(object, name);
  if (method == JinjaMethod::kChanges) return Value();
  if (method != JinjaMethod::kNone) return Method(env, object, name);
  const Value::Map* map = object.as_map();
  if (map == nullptr) return Value();
  TANDEM_RETURN_IF_ERROR(env.Work(static_cast<int64_t>(map->size() / 16)));
  const Value* value = Find(*map, name);
  return value == nullptr ? Value() : *value;
}

StatusOr<Value> Slice(JinjaEnv& env, const Value& object, std::span<const Value> bounds) {
  if (const std::string* text = object.as_string()) {
    TANDEM_RETURN_IF_ERROR(env.Scan(text->size()));
    TANDEM_ASSIGN_OR_RETURN(const Range range, ReadRange(env, bounds, NumCharacters(*text)));
    if (range.step != 1) TANDEM_RETURN_IF_ERROR(env.MakeItems(text->size()));
    return env.Text(SliceText(*text, range), object.is_markup());
  }
  if (object.is_undefined()) return OfUndefined(env, "a slice");
  const Value::List* list = object.as_list();
  if (list == nullptr || object.shape() == Value::Shape::kView) {
    return env.Error("a value of kind {} has no slices", object.kind_name());
  }
  TANDEM_ASSIGN_OR_RETURN(const Range range,
                          ReadRange(env, bounds, static_cast<int64_t>(list->size())));
  TANDEM_RETURN_IF_ERROR(env.MakeItems(static_cast<size_t>(range.count)));
  Value::List out;
  out.reserve(static_cast<size_t>(range.count));
  for (int64_t i = 0, at = range.begin; i < range.count; ++i) {
    out.push_back((*list)[static_cast<size_t>(at)]);
    if (i + 1 < range.count) at += range.step;
  }
  return Value(std::move(out), object.shape());
}

StatusOr<Value::List> Iterate(JinjaEnv& env, const Value& value) {
  if (const Value::List* list = value.as_list()) {
    TANDEM_RETURN_IF_ERROR(env.MakeItems(list->size()));
    return *list;
  }
  Value::List items;
  if (const Value::Map* map = value.as_map()) {
    TANDEM_RETURN_IF_ERROR(env.MakeItems(2 * map->size()));
    for (const auto& [key, unused] : *map) items.push_back(ValueOfKey(key));
  } else if (const std::string* text = value.as_string()) {
    TANDEM_RETURN_IF_ERROR(env.MakeItems(2 * text->size()));
    for (size_t at = 0; at < text->size();) {
      const size_t size = ReadCodePoint(*text, at).size;
      items.emplace_back(text->substr(at, size));
      at += size;
    }
  } else if (auto* iterator = As<JinjaIterator>(value)) {
    TANDEM_RETURN_IF_ERROR(env.MakeItems(iterator->items.size()));
    const auto begin = iterator->items.begin() + static_cast<std::ptrdiff_t>(iterator->next);
    items.assign(begin, iterator->items.end());
    iterator->next = iterator->items.size();
  } else if (!value.is_undefined()) {
    return env.Error("cannot walk over a value of kind {}", value.kind_name());
  }
  return items;
}

StatusOr<int64_t> Length(JinjaEnv& env, const Value& value) {
  if (const Value::List* list = value.as_list()) return static_cast<int64_t>(list->size());
  if (const Value::Map* map = value.as_map()) return static_cast<int64_t>(map->size());
  if (const std::string* text = value.as_string()) {
    TANDEM_RETURN_IF_ERROR(env.Scan(text->size()));
    return NumCharacters(*text);
  }
  if (value.is_undefined()) return int64_t{0};
  if (const auto* loop = As<JinjaLoop>(value)) return static_cast<int64_t>(loop->items().size());
  return env.Error("a value of kind {} has no length", value.kind_name());
}

}  // namespace tandem::text

#include "router/text/jinja_value.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "router/text/jinja_objects.h"

namespace tandem::text {
namespace {

constexpr char kNoText = '\xff';  // begins no UTF-8 text

struct Over {
  int depth = 1;
  bool holds_objects = false;

  void Add(const JinjaValue& item) {
    depth = std::max(depth, item.depth() + 1);
    holds_objects = holds_objects || item.holds_objects();
  }
};

}  // namespace

JinjaValue::JinjaValue(List value, Shape shape) {
  Over over;
  for (const JinjaValue& item : value) over.Add(item);
  data_ = std::make_shared<const Sequence>(
      Sequence{std::move(value), shape, over.depth, over.holds_objects});
}

JinjaValue::JinjaValue(Map value) {
  Over over;
  for (const auto& [key, item] : value) over.Add(item);
  data_ =
      std::make_shared<const Mapping>(Mapping{std::move(value), over.depth, over.holds_objects});
}

JinjaValue::Shape JinjaValue::shape() const { return Shared<Sequence>()->shape; }

int JinjaValue::depth() const {
  if (const auto* sequence = Shared<Sequence>()) return sequence->depth;
  if (const auto* mapping = Shared<Mapping>()) return mapping->depth;
  if (const JinjaObject* object = as_object()) return object->depth();
  return 0;
}

bool JinjaValue::holds_objects() const {
  if (const auto* sequence = Shared<Sequence>()) return sequence->holds_objects;
  if (const auto* mapping = Shared<Mapping>()) return mapping->holds_objects;
  return as_object() != nullptr;
}

int64_t JinjaValue::integer() const {
  if (const bool* b = as_bool()) return *b ? 1 : 0;
  const int64_t* i = as_int();
  return i == nullptr ? 0 : *i;
}

double JinjaValue::number() const {
  if (const double* f = as_float()) return *f;
  return static_cast<double>(integer());
}

const char* JinjaValue::kind_name() const {
  constexpr std::array kNames = {"undefined", "none",   "bool", "integer",
                                 "float",     "string", "list", "map"};
  if (const JinjaObject* object = as_object()) return object->kind_name();
  return kNames[data_.index()];
}

bool JinjaValue::Truthy() const {
  if (is_number()) return number() != 0;
  if (const auto* text = as_string()) return !text->empty();
  if (const auto* list = as_list()) return !list->empty();
  if (const auto* map = as_map()) return !map->empty();
  return as_object() != nullptr;
}

std::optional<std::string> KeyOf(const JinjaValue& value) {
  if (const std::string* text = value.as_string()) return *text;
  std::string key(1, kNoText);
  if (value.is_none()) return key;
  if (!value.is_number() || value.as_float() != nullptr) return std::nullopt;
  key += std::to_string(value.integer());
  return key;
}

JinjaValue ValueOfKey(const std::string& key) {
  if (!key.starts_with(kNoText)) return JinjaValue(key);
  if (key.size() == 1) return JinjaValue(JinjaValue::None{});
  int64_t number = 0;
  std::from_chars(key.data() + 1, key.data() + key.size(), number);
  return JinjaValue(number);
}

const JinjaValue* Find(const JinjaValue::Map& map, std::string_view key) {
  for (const auto& [name, value] : map) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Assign(JinjaValue::Map& map, std::string_view key, JinjaValue value) {
  for (auto& [name, old] : map) {
    if (name != key) continue;
    old = std::move(value);
    return;
  }
  map.emplace_back(std::string(key), std::move(value));
}

}  // namespace tandem::text

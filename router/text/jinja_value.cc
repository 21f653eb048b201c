#include "router/text/jinja_value.h"

#include <algorithm>
#include <array>
#include <optional>

namespace tandem::text {
namespace {

std::optional<int64_t> Number(const JinjaValue& value) {
  if (const bool* b = value.as_bool()) return *b ? 1 : 0;
  if (const int64_t* i = value.as_int()) return *i;
  return std::nullopt;
}

bool SameMap(const JinjaValue::Map& a, const JinjaValue::Map& b) {
  return a.size() == b.size() && std::all_of(a.begin(), a.end(), [&](const auto& entry) {
           return std::find(b.begin(), b.end(), entry) != b.end();
         });
}

}  // namespace

const char* JinjaValue::kind_name() const {
  constexpr std::array kNames = {"undefined", "none", "bool", "integer", "string", "list", "map"};
  return kNames[data_.index()];
}

bool JinjaValue::Truthy() const {
  if (const auto number = Number(*this)) return *number != 0;
  if (const auto* text = as_string()) return !text->empty();
  if (const auto* list = as_list()) return !list->empty();
  if (const auto* map = as_map()) return !map->empty();
  return false;
}

bool JinjaValue::operator==(const JinjaValue& other) const {
  const auto number = Number(*this);
  if (number && Number(other)) return *number == *Number(other);
  if (data_.index() != other.data_.index()) return false;
  if (const auto* text = as_string()) return *text == *other.as_string();
  if (const auto* list = as_list()) return *list == *other.as_list();
  if (const auto* map = as_map()) return SameMap(*map, *other.as_map());
  return true;  // both undefined or both none
}

}  // namespace tandem::text

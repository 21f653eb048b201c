// Reading JSON documents whose shape is known, with errors that say where: what is missing, or of
// another type than it should be. Boost.JSON's, so for .cc files only.
#pragma once

#include <boost/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace tandem::text {

namespace json = boost::json;

// One value and where it is: "tokenizer.json: model.vocab".
class JsonPlace {
 public:
  JsonPlace(const json::value& value, std::string place)
      : value_(&value), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  const json::value& value() const { return *value_; }
  bool IsNull() const { return value_->is_null(); }

  // nullopt: there is no such key, or it is null.
  std::optional<JsonPlace> Find(std::string_view key) const {
    const json::object* object = value_->if_object();
    const json::value* found =
        object == nullptr ? nullptr : object->if_contains({key.data(), key.size()});
    if (found == nullptr || found->is_null()) return std::nullopt;
    return JsonPlace(*found, PlaceOf(key));
  }
  StatusOr<JsonPlace> Get(std::string_view key) const {
    if (auto found = Find(key)) return *std::move(found);
    return InvalidArgument("{} is missing", PlaceOf(key));
  }
  JsonPlace At(size_t i) const {  // REQUIRES: an array with such an element
    return JsonPlace(value_->get_array()[i], fmt::format("{}[{}]", place_, i));
  }

  StatusOr<std::string_view> String() const {
    if (const json::string* text = value_->if_string()) {
      return std::string_view(text->data(), text->size());
    }
    return Wrong("a string");
  }
  StatusOr<int64_t> Int() const {
    if (const int64_t* number = value_->if_int64()) return *number;
    return Wrong("a whole number");
  }
  StatusOr<bool> Bool() const {
    if (const bool* truth = value_->if_bool()) return *truth;
    return Wrong("true or false");
  }
  StatusOr<const json::array*> Array() const {
    if (const json::array* array = value_->if_array()) return array;
    return Wrong("a list");
  }
  StatusOr<const json::object*> Object() const {
    if (const json::object* object = value_->if_object()) return object;
    return Wrong("an object");
  }

  // The value of `key`, or `otherwise` if there is none.
  StatusOr<bool> BoolAt(std::string_view key, bool otherwise) const {
    const auto found = Find(key);
    return found ? found->Bool() : otherwise;
  }
  StatusOr<std::string_view> StringAt(std::string_view key) const {
    TANDEM_ASSIGN_OR_RETURN(const JsonPlace found, Get(key));
    return found.String();
  }

 private:
  std::string PlaceOf(std::string_view key) const {
    return fmt::format("{}{}{}", place_, place_.ends_with(' ') ? "" : ".", key);
  }
  Status Wrong(std::string_view wanted) const {
    return InvalidArgument("{} is not {}", place_, wanted);
  }

  const json::value* value_;  // not owned
  std::string place_;
};

inline StatusOr<json::value> ParseJson(std::string_view text, std::string_view name) {
  boost::system::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error);
  if (error) return InvalidArgument("{}: not JSON: {}", name, error.message());
  return value;
}

}  // namespace tandem::text

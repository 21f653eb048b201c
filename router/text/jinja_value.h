// What a chat template computes with: Python's values as far as templates need them. Immutable, and
// cheap to copy (strings, lists and maps are shared).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tandem::text {

class JinjaValue {
 public:
  using List = std::vector<JinjaValue>;
  using Map = std::vector<std::pair<std::string, JinjaValue>>;  // few keys: searched one by one
  struct Undefined {};
  struct None {};

  JinjaValue() = default;  // undefined: a name or key that is not there
  explicit JinjaValue(None) : data_(None{}) {}
  explicit JinjaValue(bool value) : data_(value) {}
  explicit JinjaValue(int64_t value) : data_(value) {}
  explicit JinjaValue(std::string value)
      : data_(std::make_shared<const std::string>(std::move(value))) {}
  explicit JinjaValue(List value) : data_(std::make_shared<const List>(std::move(value))) {}
  explicit JinjaValue(Map value) : data_(std::make_shared<const Map>(std::move(value))) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  // Null if the value is of another kind.
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&data_); }
  const std::string* as_string() const { return Shared<std::string>(); }
  const List* as_list() const { return Shared<List>(); }
  const Map* as_map() const { return Shared<Map>(); }

  const char* kind_name() const;  // "string", for errors
  bool Truthy() const;            // as Python's bool(): empty things, 0 and undefined are false
  // Values of different kinds differ, but for True == 1 and False == 0.
  bool operator==(const JinjaValue& other) const;

 private:
  template <class T>
  const T* Shared() const {
    const auto* shared = std::get_if<std::shared_ptr<const T>>(&data_);
    return shared == nullptr ? nullptr : shared->get();
  }

  std::variant<Undefined, None, bool, int64_t, std::shared_ptr<const std::string>,
               std::shared_ptr<const List>, std::shared_ptr<const Map>>
      data_;
};

}  // namespace tandem::text

// What a chat template computes with: Python's values as far as templates need them. Immutable but
// for the objects of one rendering (jinja_objects.h), and cheap to copy: strings, lists and maps
// are shared.
//
// Thread: values without objects may be shared between threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tandem::text {

class JinjaObject;

class JinjaValue {
 public:
  using List = std::vector<JinjaValue>;
  using Map = std::vector<std::pair<std::string, JinjaValue>>;  // in order; few keys: searched
  struct Undefined {};
  struct None {};
  enum class Shape : uint8_t { kList, kTuple, kView, kRange };  // a view: d.items(), d.keys(), ...

  JinjaValue() = default;  // undefined: a name or key that is not there
  explicit JinjaValue(None) : data_(None{}) {}
  explicit JinjaValue(bool value) : data_(value) {}
  explicit JinjaValue(int64_t value) : data_(value) {}
  explicit JinjaValue(double value) : data_(value) {}
  // `markup`: came from the filter `safe`; text that is added to it is escaped for HTML.
  explicit JinjaValue(std::string value, bool markup = false)
      : data_(std::make_shared<const Text>(Text{std::move(value), markup})) {}
  explicit JinjaValue(const char*) = delete;  // would be a bool
  explicit JinjaValue(List value, Shape shape = Shape::kList);
  explicit JinjaValue(Map value);
  explicit JinjaValue(std::shared_ptr<JinjaObject> object) : data_(std::move(object)) {}

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  // Null if the value is of another kind.
  const bool* as_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* as_int() const { return std::get_if<int64_t>(&data_); }
  const double* as_float() const { return std::get_if<double>(&data_); }
  const std::string* as_string() const {
    const auto* text = Shared<Text>();
    return text == nullptr ? nullptr : &text->text;
  }
  const List* as_list() const {
    const auto* sequence = Shared<Sequence>();
    return sequence == nullptr ? nullptr : &sequence->items;
  }
  const Map* as_map() const {
    const auto* mapping = Shared<Mapping>();
    return mapping == nullptr ? nullptr : &mapping->entries;
  }
  JinjaObject* as_object() const {
    const auto* object = std::get_if<std::shared_ptr<JinjaObject>>(&data_);
    return object == nullptr ? nullptr : object->get();
  }
  bool is_markup() const {
    const auto* text = Shared<Text>();
    return text != nullptr && text->markup;
  }
  bool is_number() const { return data_.index() >= 2 && data_.index() <= 4; }  // a bool is one
  Shape shape() const;         // REQUIRES: as_list()
  int depth() const;           // of lists, maps and objects in each other; 0: holds no other value
  bool holds_objects() const;  // is one, or one is in it
  int64_t integer() const;     // of a bool or an integer; else 0
  double number() const;       // REQUIRES: is_number()

  const char* kind_name() const;  // "string", for errors
  bool Truthy() const;            // as Python's bool(): empty things, 0 and undefined are false

 private:
  struct Text {
    std::string text;
    bool markup;
  };
  struct Sequence {
    List items;
    Shape shape;
    int depth;
    bool holds_objects;
  };
  struct Mapping {
    Map entries;
    int depth;
    bool holds_objects;
  };

  template <class T>
  const T* Shared() const {
    const auto* shared = std::get_if<std::shared_ptr<const T>>(&data_);
    return shared == nullptr ? nullptr : shared->get();
  }

  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Mapping>,
               std::shared_ptr<JinjaObject>>
      data_;
};

// Keys are text; an integer or none is spelled so that no text is equal to it. Nothing: a value of
// that kind is no key here.
std::optional<std::string> KeyOf(const JinjaValue& value);
JinjaValue ValueOfKey(const std::string& key);

// Null: no such key.
const JinjaValue* Find(const JinjaValue::Map& map, std::string_view key);
// A key that is there keeps its place, as in Python's dict.
void Assign(JinjaValue::Map& map, std::string_view key, JinjaValue value);

}  // namespace tandem::text

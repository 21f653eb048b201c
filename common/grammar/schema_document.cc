#include "common/grammar/schema_document.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <map>
#include <unordered_map>
#include <utility>

namespace tandem::grammar {
namespace {

constexpr int kMaxReferences = 16;        // that lead to references
constexpr size_t kMaxCompared = 200;      // alternatives, each with each
constexpr int64_t kMaxBound = 1LL << 53;  // of numbers: exact in a double
constexpr int kMaxCount = 100000;         // of minItems, maxLength, ...: refused later, or earlier
constexpr size_t kMaxPathBytes = 1000;    // paths are for messages

using Names = std::set<std::string, std::less<>>;

const Names kAnnotations = {
    "title",           "description", "default",       "examples", "deprecated",
    "readOnly",        "writeOnly",   "$schema",       "$id",      "id",
    "$comment",        "$defs",       "definitions",   "$anchor",  "contentMediaType",
    "contentEncoding", "strict",      "discriminator", "example",  "xml",
    "externalDocs"};
const Names kObjectWords = {"properties", "required", "additionalProperties", "propertyNames"};
const Names kArrayWords = {"items", "additionalItems", "prefixItems", "minItems", "maxItems"};
const Names kStringWords = {"minLength", "maxLength", "pattern", "format"};
const Names kNumberWords = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"};
const Names kTypes = {"object", "array", "string", "number", "integer", "boolean", "null"};

std::string_view TypeOf(const json::value& value) {
  switch (value.kind()) {
    case json::kind::object:
      return "object";
    case json::kind::array:
      return "array";
    case json::kind::string:
      return "string";
    case json::kind::bool_:
      return "boolean";
    case json::kind::null:
      return "null";
    case json::kind::double_:
      return std::floor(value.get_double()) == value.get_double() ? "integer" : "number";
    default:
      return "integer";
  }
}

// %22 and the like: a pointer in a URI.
std::string Unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      const std::string hex(text.substr(i + 1, 2));
      char* end = nullptr;
      const long code = std::strtol(hex.c_str(), &end, 16);
      if (*end == '\0') {
        out += static_cast<char>(code);
        i += 2;
        continue;
      }
    }
    out += text[i];
  }
  return out;
}

StatusOr<std::optional<int64_t>> Whole(const std::string& path, const json::object& schema,
                                       const char* word) {
  const json::value* value = schema.if_contains(word);
  if (value == nullptr) return std::optional<int64_t>();
  if (!value->is_number()) return WrongSchema(path, "'{}' is a number", word);
  const double number = value->to_number<double>();
  if (std::floor(number) != number || std::abs(number) > static_cast<double>(kMaxBound)) {
    return SchemaNotSupported(path, "'{}' that is no whole number within 2^53", word);
  }
  return std::optional(static_cast<int64_t>(number));
}

// What tells an alternative of oneOf from others. Constants are numbered, so that equal ones are
// found without comparing all with all; lists of them are sorted.
struct Alternative {
  std::vector<std::string> types;
  std::vector<int> constants;
  std::map<std::string_view, std::vector<int>> tags;  // constants of required properties
};

class Alternatives {
 public:
  void Add(const json::object& schema) {
    Alternative out;
    out.constants = ConstantsOf(schema);
    if (auto types = TypesOf("", schema); types.ok()) out.types = *std::move(types);
    const json::value* properties = schema.if_contains("properties");
    const json::value* required = schema.if_contains("required");
    if (properties != nullptr && properties->is_object() && required != nullptr &&
        required->is_array()) {
      for (const json::value& name : required->get_array()) {
        const json::value* property =
            name.is_string() ? properties->get_object().if_contains(name.get_string()) : nullptr;
        if (property == nullptr || !property->is_object()) continue;
        std::vector<int> constants = ConstantsOf(property->get_object());
        if (!constants.empty()) out.tags[View(name.get_string())] = std::move(constants);
      }
    }
    list_.push_back(std::move(out));
  }

  // Whether one look at each shows it: all have constants, or a property with constants.
  bool AreToldApart() const {
    if (Differ([](const Alternative& a) { return &a.constants; })) return true;
    const auto& tags = list_[0].tags;
    return std::any_of(tags.begin(), tags.end(), [&](const auto& tag) {
      return Differ([&](const Alternative& a) {
        const auto it = a.tags.find(tag.first);
        return it == a.tags.end() ? nullptr : &it->second;
      });
    });
  }

  bool Disjoint(size_t i, size_t j) const {
    const Alternative &a = list_[i], &b = list_[j];
    if (DisjointLists(a.constants, b.constants)) return true;
    if (!a.types.empty() && !b.types.empty()) {
      const auto overlap = [](const std::string& x, const std::string& y) {
        return x == y || (x == "number" && y == "integer") || (x == "integer" && y == "number");
      };
      const bool common = std::any_of(a.types.begin(), a.types.end(), [&](const auto& x) {
        return std::any_of(b.types.begin(), b.types.end(),
                           [&](const auto& y) { return overlap(x, y); });
      });
      if (!common) return true;
    }
    return std::any_of(a.tags.begin(), a.tags.end(), [&](const auto& tag) {
      const auto other = b.tags.find(tag.first);
      return other != b.tags.end() && DisjointLists(tag.second, other->second);
    });
  }

 private:
  // Empty: the schema has none.
  std::vector<int> ConstantsOf(const json::object& schema) {
    std::vector<int> out;
    const auto add = [&](const json::value& value) {
      out.push_back(
          numbers_.try_emplace(Written(value), static_cast<int>(numbers_.size())).first->second);
    };
    const json::value* list = schema.if_contains("enum");
    if (const json::value* value = schema.if_contains("const")) {
      add(*value);
    } else if (list != nullptr && list->is_array()) {
      for (const json::value& value : list->get_array()) add(value);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  static bool DisjointLists(const std::vector<int>& a, const std::vector<int>& b) {
    if (a.empty() || b.empty()) return false;
    for (auto x = a.begin(), y = b.begin(); x != a.end() && y != b.end();) {
      if (*x == *y) return false;
      ++(*x < *y ? x : y);
    }
    return true;
  }

  template <class ListOf>
  bool Differ(const ListOf& list_of) const {
    std::vector<int> owner(numbers_.size(), -1);
    for (size_t i = 0; i < list_.size(); ++i) {
      const std::vector<int>* constants = list_of(list_[i]);
      if (constants == nullptr || constants->empty()) return false;
      for (const int constant : *constants) {
        if (owner[constant] >= 0 && owner[constant] != static_cast<int>(i)) return false;
        owner[constant] = static_cast<int>(i);
      }
    }
    return true;
  }

  std::vector<Alternative> list_;
  std::unordered_map<std::string, int> numbers_;
};

}  // namespace

std::string At(const std::string& path, std::string_view key) {
  if (path.size() + key.size() > kMaxPathBytes)
    return path.ends_with("/...") ? path : path + "/...";
  std::string out = path;
  out.push_back('/');
  for (const char c : key) {
    if (c == '~' || c == '/') {
      out += c == '~' ? "~0" : "~1";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

std::string Written(const json::value& value) {
  if (const auto* number = value.if_double()) {
    // 1.0 is written as 1: Boost would write 1E0.
    if (std::abs(*number) < 1e15 && std::floor(*number) == *number) {
      return std::to_string(static_cast<int64_t>(*number));
    }
    return fmt::format("{}", *number);
  }
  std::string out;
  const auto add = [&](std::string item) {
    if (!out.empty()) out.push_back(',');
    out += item;
  };
  if (const auto* list = value.if_array()) {
    for (const json::value& item : *list) add(Written(item));
    return fmt::format("[{}]", out);
  }
  if (const auto* object = value.if_object()) {
    for (const auto& [key, item] : *object) {
      add(fmt::format("{}:{}", json::serialize(json::value(key)), Written(item)));
    }
    return fmt::format("{{{}}}", out);
  }
  return json::serialize(value);
}

bool IsOfType(const json::value& value, std::string_view type) {
  const std::string_view own = TypeOf(value);
  return own == type || (own == "integer" && type == "number");
}

Status CheckConstant(const std::string& path, const json::value& value) {
  if (const auto* list = value.if_array()) {
    for (const json::value& item : *list) TANDEM_RETURN_IF_ERROR(CheckConstant(path, item));
  } else if (const auto* object = value.if_object()) {
    for (const auto& [key, item] : *object) TANDEM_RETURN_IF_ERROR(CheckConstant(path, item));
  } else if (const auto* number = value.if_double()) {
    // A double: what was written is lost, or was never a number that one can hold.
    if (!(std::abs(*number) < 0x1p63)) return SchemaNotSupported(path, "a constant beyond 2^63");
  }
  return OkStatus();
}

bool IsAnnotation(std::string_view word) {
  return kAnnotations.contains(word) || word.starts_with("x-");
}

bool IsNullable(const json::object& schema) {
  const json::value* nullable = schema.if_contains("nullable");
  return nullable != nullptr && *nullable == json::value(true);
}

std::vector<std::string> Within(const std::vector<std::string>& types,
                                const std::vector<std::string>& outer) {
  const auto has = [&](const char* name) {
    return std::find(outer.begin(), outer.end(), name) != outer.end();
  };
  std::vector<std::string> out;
  for (const std::string& type : types) {
    if (has(type.c_str()) || (type == "integer" && has("number"))) {
      out.push_back(type);
    } else if (type == "number" && has("integer")) {
      out.emplace_back("integer");
    }
  }
  return out;
}

Status CheckWords(const std::string& path, const json::object& schema) {
  static const Names kOthers = {"type",  "const", "enum",  "$ref",
                                "anyOf", "oneOf", "allOf", "nullable"};
  for (const auto& [key, value] : schema) {
    const std::string_view word = View(key);
    if (IsAnnotation(word) || kOthers.contains(word) || kObjectWords.contains(word) ||
        kArrayWords.contains(word) || kStringWords.contains(word) || kNumberWords.contains(word)) {
      continue;
    }
    // What rules nothing out is as good as absent.
    if (word == "uniqueItems" && value == json::value(false)) continue;
    return SchemaNotSupported(path, "keyword '{}'", word);
  }
  return OkStatus();
}

StatusOr<std::vector<std::string>> TypesOf(const std::string& path, const json::object& schema) {
  std::vector<std::string> types;
  if (const json::value* type = schema.if_contains("type")) {
    const json::array one = {*type};
    const json::array& list = type->is_array() ? type->get_array() : one;
    for (const json::value& name : list) {
      if (!name.is_string() || !kTypes.contains(View(name.get_string()))) {
        return WrongSchema(
            path, "'type' is one of object, array, string, number, integer, boolean, null");
      }
      types.emplace_back(View(name.get_string()));
    }
    if (types.empty()) return WrongSchema(path, "'type' is an empty list");
  } else {
    const std::pair<const Names&, const char*> kinds[] = {{kObjectWords, "object"},
                                                          {kArrayWords, "array"},
                                                          {kStringWords, "string"},
                                                          {kNumberWords, "number"}};
    for (const auto& [words, name] : kinds) {
      const bool has = std::any_of(words.begin(), words.end(),
                                   [&](const std::string& word) { return schema.contains(word); });
      if (has) types.emplace_back(name);
    }
  }
  if (IsNullable(schema) && !types.empty()) types.emplace_back("null");
  return types;
}

StatusOr<NumberRange> RangeOf(const std::string& path, const json::object& schema) {
  NumberRange range;
  TANDEM_ASSIGN_OR_RETURN(range.min, Whole(path, schema, "minimum"));
  TANDEM_ASSIGN_OR_RETURN(range.max, Whole(path, schema, "maximum"));
  for (const bool low : {true, false}) {
    const char* word = low ? "exclusiveMinimum" : "exclusiveMaximum";
    std::optional<int64_t>& bound = low ? range.min : range.max;
    bool& excluded = low ? range.min_excluded : range.max_excluded;
    const json::value* value = schema.if_contains(word);
    if (value == nullptr) continue;
    if (value->is_bool()) {  // draft 4
      excluded = value->get_bool();
      continue;
    }
    TANDEM_ASSIGN_OR_RETURN(const std::optional<int64_t> own, Whole(path, schema, word));
    const bool tighter = !bound || (low ? *own >= *bound : *own <= *bound);
    if (tighter) {
      bound = own;
      excluded = true;
    }
  }
  return range;
}

StatusOr<int> CountOf(const std::string& path, const json::object& schema, const char* word,
                      int otherwise) {
  TANDEM_ASSIGN_OR_RETURN(const std::optional<int64_t> count, Whole(path, schema, word));
  if (!count) return otherwise;
  if (*count < 0) return WrongSchema(path, "'{}' is below 0", word);
  if (*count > kMaxCount) return SchemaNotSupported(path, "'{}' above {}", word, kMaxCount);
  return static_cast<int>(*count);
}

StatusOr<SchemaDocument::Target> SchemaDocument::Resolve(const std::string& path,
                                                         const json::value& value) const {
  const json::string* text = value.if_string();
  if (text == nullptr) return WrongSchema(path, "'$ref' is a string");
  const std::string pointer(View(*text));
  if (pointer.empty() || pointer[0] != '#') {
    return SchemaNotSupported(path, "'$ref' to another document ('{}')", pointer);
  }
  if (pointer.size() > 1 && pointer[1] != '/') {
    return SchemaNotSupported(path, "'$ref' by a name ('{}')", pointer);
  }
  boost::system::error_code error;
  const json::value* schema = root_.find_pointer(Unescaped(pointer.substr(1)), error);
  if (schema == nullptr) return WrongSchema(path, "'$ref': there is no '{}'", pointer);
  return Target{pointer, schema};
}

StatusOr<const json::object*> SchemaDocument::Plain(const std::string& path,
                                                    const json::value& schema) const {
  const json::value* at = &schema;
  for (int i = 0; i < kMaxReferences; ++i) {
    const json::object* object = at->if_object();
    if (object == nullptr) return SchemaNotSupported(path, "a boolean here");
    const json::value* ref = object->if_contains("$ref");
    if (ref == nullptr) return object;
    TANDEM_ASSIGN_OR_RETURN(const Target target, Resolve(path, *ref));
    at = target.schema;
  }
  return SchemaNotSupported(path, "'$ref' that leads to more than {} others here", kMaxReferences);
}

Status SchemaDocument::CheckDisjoint(const std::string& path, const json::array& list) const {
  const auto both = [&](size_t a, size_t b) {
    return Unsupported(
        "{}: alternatives {} and {} of 'oneOf' may both hold, which is not supported: use "
        "'anyOf', or a required property that is another constant in each",
        path, a, b);
  };
  Alternatives alternatives;
  std::map<const json::object*, size_t> met;
  for (size_t i = 0; i < list.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const json::object* object,
                            Plain(At(path, std::to_string(i)), list[i]));
    const auto [it, is_new] = met.emplace(object, i);
    if (!is_new) return both(it->second, i);
    alternatives.Add(*object);
  }
  if (alternatives.AreToldApart()) return OkStatus();
  if (list.size() > kMaxCompared) {
    return SchemaNotSupported(path, "'oneOf' of more than {} that no constant tells apart",
                              kMaxCompared);
  }
  for (size_t a = 0; a < list.size(); ++a) {
    for (size_t b = a + 1; b < list.size(); ++b) {
      if (!alternatives.Disjoint(a, b)) return both(a, b);
    }
  }
  return OkStatus();
}

}  // namespace tandem::grammar

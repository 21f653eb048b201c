#include "common/grammar/schema_document.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace tandem::grammar {
namespace {

constexpr int kMaxReferences = 100;  // that lead to references

using Names = std::set<std::string, std::less<>>;

const Names kAnnotations = {"title",       "description", "default",          "examples",
                            "deprecated",  "readOnly",    "writeOnly",        "$schema",
                            "$id",         "id",          "$comment",         "$defs",
                            "definitions", "$anchor",     "contentMediaType", "contentEncoding",
                            "strict"};
const Names kObjectWords = {"properties", "required", "additionalProperties"};
const Names kArrayWords = {"items", "prefixItems", "minItems", "maxItems"};
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

// Constants of a schema; empty: it has none.
std::vector<std::string> ConstantsOf(const json::object& schema) {
  std::vector<std::string> out;
  if (const json::value* value = schema.if_contains("const")) return {Written(*value)};
  if (const json::value* list = schema.if_contains("enum"); list != nullptr && list->is_array()) {
    for (const json::value& value : list->get_array()) out.push_back(Written(value));
  }
  return out;
}

bool DisjointLists(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  if (a.empty() || b.empty()) return false;
  return std::none_of(a.begin(), a.end(), [&](const std::string& value) {
    return std::find(b.begin(), b.end(), value) != b.end();
  });
}

bool Disjoint(const json::object& a, const json::object& b) {
  if (DisjointLists(ConstantsOf(a), ConstantsOf(b))) return true;
  const auto types_a = TypesOf("", a), types_b = TypesOf("", b);
  if (types_a.ok() && types_b.ok() && !types_a->empty() && !types_b->empty()) {
    const auto overlap = [](const std::string& x, const std::string& y) {
      return x == y || (x == "number" && y == "integer") || (x == "integer" && y == "number");
    };
    const bool common = std::any_of(types_a->begin(), types_a->end(), [&](const auto& x) {
      return std::any_of(types_b->begin(), types_b->end(),
                         [&](const auto& y) { return overlap(x, y); });
    });
    if (!common) return true;
  }
  const json::value* props_a = a.if_contains("properties");
  const json::value* props_b = b.if_contains("properties");
  if (props_a == nullptr || props_b == nullptr || !props_a->is_object() || !props_b->is_object()) {
    return false;
  }
  for (const auto& [name, schema] : props_a->get_object()) {
    const json::value* other = props_b->get_object().if_contains(name);
    if (other == nullptr || !schema.is_object() || !other->is_object()) continue;
    if (!Requires(a, name) || !Requires(b, name)) continue;
    if (DisjointLists(ConstantsOf(schema.get_object()), ConstantsOf(other->get_object()))) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string At(const std::string& path, std::string_view key) {
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

bool IsAnnotation(std::string_view word) { return kAnnotations.contains(word); }

Status CheckWords(const std::string& path, const json::object& schema) {
  const Names kOthers = {"type", "const", "enum", "$ref", "anyOf", "oneOf", "allOf", "nullable"};
  for (const auto& [key, value] : schema) {
    const std::string_view word = View(key);
    if (kAnnotations.contains(word) || kOthers.contains(word) || kObjectWords.contains(word) ||
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
  if (const json::value* nullable = schema.if_contains("nullable");
      nullable != nullptr && *nullable == json::value(true) && !types.empty()) {
    types.emplace_back("null");
  }
  return types;
}

bool Requires(const json::object& schema, json::string_view name) {
  const json::value* list = schema.if_contains("required");
  if (list == nullptr || !list->is_array()) return false;
  const json::array& names = list->get_array();
  return std::find(names.begin(), names.end(), json::value(name)) != names.end();
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
  return WrongSchema(path, "'$ref' refers to itself");
}

Status SchemaDocument::CheckDisjoint(const std::string& path, const json::array& list) const {
  std::vector<const json::object*> plain;
  for (size_t i = 0; i < list.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(const json::object* object,
                            Plain(At(path, std::to_string(i)), list[i]));
    plain.push_back(object);
  }
  for (size_t a = 0; a < plain.size(); ++a) {
    for (size_t b = a + 1; b < plain.size(); ++b) {
      if (!Disjoint(*plain[a], *plain[b])) {
        return Unsupported(
            "{}: alternatives {} and {} of 'oneOf' may both hold, which is not supported: use "
            "'anyOf', or a required property that is another constant in each",
            path, a, b);
      }
    }
  }
  return OkStatus();
}

}  // namespace tandem::grammar

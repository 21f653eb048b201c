#include "common/grammar/json_schema.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar/json_rules.h"
#include "common/grammar/schema_document.h"

namespace tandem::grammar {
namespace {

constexpr int kMaxDepth = 100;            // of the document
constexpr int64_t kMaxBound = 1LL << 53;  // of numbers: exact in a double
constexpr int kMaxCount = 100000;         // of minItems, maxLength, ...: refused later, or earlier
constexpr size_t kMaxSchemas = 20000;     // that are compiled: $ref may multiply them

class Compiler {
 public:
  Compiler(const json::value& root, Rules& rules) : document_(root), rules_(rules), json_(rules) {}

  StatusOr<RuleId> Compile() { return RuleAt("#", document_.root()); }

 private:
  using Path = const std::string&;

  // A schema that is referred to is compiled once; it may refer to itself.
  StatusOr<RuleId> RuleAt(const std::string& path, const json::value& schema) {
    const auto known = compiled_.find(path);
    if (known != compiled_.end()) return known->second;
    const RuleId rule = rules_.AddRule(path);
    compiled_[path] = rule;
    TANDEM_ASSIGN_OR_RETURN(const ExprId body, Schema(path, schema));
    rules_.Define(rule, body);
    return rule;
  }

  StatusOr<ExprId> Schema(Path path, const json::value& schema) {
    if (++num_schemas_ > kMaxSchemas) return ResourceExhausted("the schema is too large");
    if (const bool* all = schema.if_bool()) return *all ? json_.Value() : rules_.Never();
    const json::object* object = schema.if_object();
    if (object == nullptr) return WrongSchema(path, "a schema is an object or a boolean");
    TANDEM_RETURN_IF_ERROR(CheckWords(path, *object));
    for (const char* word : {"$ref", "anyOf", "oneOf", "allOf"}) {
      if (object->contains(word)) return Combined(path, *object, word);
    }
    if (object->contains("const") || object->contains("enum")) return Constants(path, *object);
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(path, *object));
    if (types.empty()) return json_.Value();
    std::vector<ExprId> choices;
    for (const std::string& type : types) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice, OfType(path, *object, type));
      choices.push_back(choice);
    }
    return rules_.Choice(std::move(choices));
  }

  // A keyword that stands for the whole schema, beside annotations and what is merged into objects.
  StatusOr<ExprId> Combined(Path path, const json::object& schema, std::string_view word) {
    for (const auto& [key, value] : schema) {
      if (View(key) == word || IsAnnotation(View(key))) continue;
      return SchemaNotSupported(path, "'{}' beside '{}'", View(key), word);
    }
    const json::value& value = schema.at({word.data(), word.size()});
    if (word == "$ref") return Reference(path, value);
    const json::array* list = value.if_array();
    if (list == nullptr || list->empty())
      return WrongSchema(path, "'{}' is a list of schemas", word);
    const std::string below = At(path, word);
    if (word == "allOf") return AllOf(below, *list);
    if (word == "oneOf") TANDEM_RETURN_IF_ERROR(document_.CheckDisjoint(below, *list));
    std::vector<ExprId> choices;
    for (size_t i = 0; i < list->size(); ++i) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice,
                              Schema(At(below, std::to_string(i)), (*list)[i]));
      choices.push_back(choice);
    }
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> Reference(Path path, const json::value& value) {
    TANDEM_ASSIGN_OR_RETURN(const SchemaDocument::Target target, document_.Resolve(path, value));
    TANDEM_ASSIGN_OR_RETURN(const RuleId rule, RuleAt(target.path, *target.schema));
    return rules_.Rule(rule);
  }

  // ---- allOf and oneOf

  StatusOr<ExprId> AllOf(Path path, const json::array& list) {
    if (list.size() == 1) return Schema(At(path, "0"), list[0]);
    json::object merged, properties;
    json::array required;
    merged["type"] = "object";
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string part = At(path, std::to_string(i));
      TANDEM_ASSIGN_OR_RETURN(const json::object* object, document_.Plain(part, list[i]));
      for (const auto& [key, value] : *object) {
        if (IsAnnotation(View(key))) continue;
        if (key == "type" && value == json::value("object")) continue;
        if (key == "properties" && value.is_object()) {
          for (const auto& [name, schema] : value.get_object()) {
            if (properties.contains(name)) {
              return SchemaNotSupported(part, "property '{}' twice in 'allOf'", View(name));
            }
            properties[name] = schema;
          }
        } else if (key == "required" && value.is_array()) {
          required.insert(required.end(), value.get_array().begin(), value.get_array().end());
        } else {
          return SchemaNotSupported(part, "'{}' in 'allOf'", View(key));
        }
      }
    }
    merged["properties"] = std::move(properties);
    merged["required"] = std::move(required);
    return Schema(path, merged);
  }

  // ---- one type

  StatusOr<ExprId> Constants(Path path, const json::object& schema) {
    for (const auto& [key, value] : schema) {
      if (key != "const" && key != "enum" && key != "type" && !IsAnnotation(View(key))) {
        return SchemaNotSupported(path, "'{}' beside 'enum' or 'const'", View(key));
      }
    }
    std::vector<const json::value*> values;
    if (const json::value* one = schema.if_contains("const")) {
      values.push_back(one);
      if (schema.contains("enum")) return SchemaNotSupported(path, "'enum' beside 'const'");
    } else {
      const json::array* list = schema.at("enum").if_array();
      if (list == nullptr) return WrongSchema(path, "'enum' is a list of values");
      for (const json::value& value : *list) values.push_back(&value);
    }
    TANDEM_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(path, schema));
    std::vector<ExprId> choices;
    for (const json::value* value : values) {
      const bool fits = types.empty() || std::any_of(types.begin(), types.end(), [&](auto& type) {
                          return IsOfType(*value, type);
                        });
      if (fits) choices.push_back(rules_.Literal(Written(*value)));
    }
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> OfType(Path path, const json::object& schema, std::string_view type) {
    if (type == "object") return Object(path, schema);
    if (type == "array") return Array(path, schema);
    if (type == "string") return String(path, schema);
    if (type == "boolean") return json_.Boolean();
    if (type == "null") return rules_.Literal("null");
    TANDEM_ASSIGN_OR_RETURN(const NumberRange range, Range(path, schema));
    return type == "integer" && !range.min && !range.max ? json_.Integer()
           : type == "integer"                           ? json_.IntegerIn(range)
                                                         : json_.NumberIn(range);
  }

  StatusOr<std::optional<int64_t>> Whole(Path path, const json::object& schema, const char* word) {
    const json::value* value = schema.if_contains(word);
    if (value == nullptr) return std::optional<int64_t>();
    if (!value->is_number()) return WrongSchema(path, "'{}' is a number", word);
    const double number = value->to_number<double>();
    if (std::floor(number) != number || std::abs(number) > static_cast<double>(kMaxBound)) {
      return SchemaNotSupported(path, "'{}' that is no whole number within 2^53", word);
    }
    return std::optional(static_cast<int64_t>(number));
  }

  StatusOr<NumberRange> Range(Path path, const json::object& schema) {
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

  // A count; absent: `otherwise`.
  StatusOr<int> Count(Path path, const json::object& schema, const char* word, int otherwise) {
    TANDEM_ASSIGN_OR_RETURN(const std::optional<int64_t> count, Whole(path, schema, word));
    if (!count) return otherwise;
    if (*count < 0) return WrongSchema(path, "'{}' is below 0", word);
    if (*count > kMaxCount) return SchemaNotSupported(path, "'{}' above {}", word, kMaxCount);
    return static_cast<int>(*count);
  }

  StatusOr<ExprId> String(Path path, const json::object& schema) {
    TANDEM_ASSIGN_OR_RETURN(const int min, Count(path, schema, "minLength", 0));
    TANDEM_ASSIGN_OR_RETURN(const int max, Count(path, schema, "maxLength", kUnbounded));
    if (max != kUnbounded && max < min)
      return WrongSchema(path, "'maxLength' is below 'minLength'");
    const json::value* pattern = schema.if_contains("pattern");
    const json::value* format = schema.if_contains("format");
    if (pattern == nullptr && format == nullptr) return json_.StringOfLength(min, max);
    if ((pattern != nullptr && format != nullptr) || min > 0 || max != kUnbounded) {
      return SchemaNotSupported(path, "'pattern' or 'format' beside another bound of a string");
    }
    const json::value& text = pattern != nullptr ? *pattern : *format;
    if (!text.is_string()) return WrongSchema(path, "'pattern' and 'format' are strings");
    const std::string_view view = View(text.get_string());
    const StatusOr<ExprId> expr =
        pattern != nullptr ? json_.StringWithPattern(view) : json_.StringWithFormat(view);
    if (expr.ok()) return *expr;
    return expr.status().code() == StatusCode::kUnimplemented
               ? Unsupported("{}: {}", path, Message(expr.status()))
               : InvalidArgument("{}: {}", path, Message(expr.status()));
  }

  StatusOr<ExprId> Array(Path path, const json::object& schema) {
    TANDEM_ASSIGN_OR_RETURN(const int min, Count(path, schema, "minItems", 0));
    TANDEM_ASSIGN_OR_RETURN(int max, Count(path, schema, "maxItems", kUnbounded));
    std::vector<ExprId> first;
    if (const json::value* prefix = schema.if_contains("prefixItems")) {
      if (!prefix->is_array()) return WrongSchema(path, "'prefixItems' is a list of schemas");
      for (size_t i = 0; i < prefix->get_array().size(); ++i) {
        TANDEM_ASSIGN_OR_RETURN(
            const ExprId item,
            Schema(At(At(path, "prefixItems"), std::to_string(i)), prefix->get_array()[i]));
        first.push_back(item);
      }
    }
    const json::value* items = schema.if_contains("items");
    if (items != nullptr && items->is_array()) return SchemaNotSupported(path, "a list as 'items'");
    const int count = static_cast<int>(first.size());
    ExprId item = -1;
    if (items != nullptr && *items == json::value(false)) {
      max = max == kUnbounded ? count : std::min(max, count);
    } else if (items != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(item, Schema(At(path, "items"), *items));
    } else {
      item = json_.Value();
    }
    if (max != kUnbounded && max < min) return rules_.Never();
    return Listed(first, item, min, max);
  }

  // "[" with min to max of `first`, then of `item`, "]".
  ExprId Listed(const std::vector<ExprId>& first, ExprId item, int min, int max) {
    const int count = static_cast<int>(first.size());
    const auto next = [&](ExprId what) {
      return rules_.Sequence({rules_.Literal(","), json_.Space(), what});
    };
    // What may follow i items, from the last on.
    ExprId tail = rules_.Nothing();
    int known = count;
    if (max != kUnbounded && max <= count) {
      known = max;
    } else if (item >= 0) {
      const int before = std::max(count, 1);  // the first item of all has no comma
      tail = rules_.Repeat(next(item), std::max(min - before, 0),
                           max == kUnbounded ? kUnbounded : max - before);
    }
    const bool starts_with_item = known == 0 && item >= 0 && max != 0;
    for (int i = known - 1; i >= 1; --i) {
      tail = rules_.Sequence({next(first[i]), tail});
      if (i >= min) tail = rules_.Optional(tail);
    }
    std::vector<ExprId> parts = {rules_.Literal("["), json_.Space()};
    if (known > 0 || starts_with_item) {
      ExprId all = rules_.Sequence({known > 0 ? first[0] : item, tail, json_.Space()});
      if (min == 0) all = rules_.Optional(all);
      parts.push_back(all);
    }
    parts.push_back(rules_.Literal("]"));
    return rules_.Sequence(std::move(parts));
  }

  struct Property {
    std::string name;
    ExprId pair = -1;
    bool required = false;
  };

  StatusOr<ExprId> Object(Path path, const json::object& schema) {
    if (!schema.contains("properties") && !schema.contains("required") &&
        !schema.contains("additionalProperties")) {
      return json_.Object();
    }
    TANDEM_ASSIGN_OR_RETURN(std::vector<Property> properties, Properties(path, schema));
    ExprId extra = -1;
    const json::value* additional = schema.if_contains("additionalProperties");
    const bool open =
        additional == nullptr ? !schema.contains("properties") : *additional != json::value(false);
    if (open) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId value,
                              additional == nullptr
                                  ? StatusOr<ExprId>(json_.Value())
                                  : Schema(At(path, "additionalProperties"), *additional));
      std::vector<std::string_view> names;
      for (const Property& property : properties) names.push_back(property.name);
      const ExprId key = names.empty() ? json_.String() : json_.StringExcept(names);
      extra = Shared(path, Pair(key, value));
    }
    return rules_.Sequence({rules_.Literal("{"), json_.Space(), Members(path, properties, extra),
                            rules_.Literal("}")});
  }

  ExprId Pair(ExprId key, ExprId value) {
    return rules_.Sequence({key, rules_.Literal(":"), json_.Space(), value});
  }

  ExprId Shared(Path path, ExprId body) {
    const RuleId rule = rules_.AddRule(path);
    rules_.Define(rule, body);
    return rules_.Rule(rule);
  }

  StatusOr<std::vector<Property>> Properties(Path path, const json::object& schema) {
    std::vector<Property> out;
    const auto add = [&](json::string_view name, ExprId value) {
      out.push_back({std::string(View(name)),
                     Pair(rules_.Literal(json::serialize(json::value(name))), value),
                     Requires(schema, name)});
    };
    if (const json::value* list = schema.if_contains("properties")) {
      if (!list->is_object()) return WrongSchema(path, "'properties' is an object of schemas");
      for (const auto& [name, value] : list->get_object()) {
        TANDEM_ASSIGN_OR_RETURN(const ExprId expr,
                                Schema(At(At(path, "properties"), View(name)), value));
        add(name, expr);
      }
    }
    const json::value* required = schema.if_contains("required");
    if (required == nullptr) return out;
    if (!required->is_array()) return WrongSchema(path, "'required' is a list of names");
    for (const json::value& name : required->get_array()) {
      if (!name.is_string()) return WrongSchema(path, "'required' is a list of names");
      const std::string_view text = View(name.get_string());
      const bool known =
          std::any_of(out.begin(), out.end(), [&](const Property& p) { return p.name == text; });
      if (known) continue;
      // Named here alone: what additional properties may be.
      const json::value* additional = schema.if_contains("additionalProperties");
      if (additional != nullptr && *additional == json::value(false)) return NeverAll(out);
      TANDEM_ASSIGN_OR_RETURN(const ExprId value,
                              additional == nullptr
                                  ? StatusOr<ExprId>(json_.Value())
                                  : Schema(At(path, "additionalProperties"), *additional));
      add(name.get_string(), value);
    }
    return out;
  }

  // A property that no object can have.
  std::vector<Property> NeverAll(std::vector<Property> out) {
    out.push_back({"", rules_.Never(), true});
    return out;
  }

  // The members, in order: optional ones may be left out, commas stand between those that are
  // there. From the last on, as what may follow with a member before it and without one.
  ExprId Members(Path path, const std::vector<Property>& properties, ExprId extra) {
    const auto next = [&](ExprId what) {
      return rules_.Sequence({rules_.Literal(","), json_.Space(), what});
    };
    ExprId tail = json_.Space(), fresh = rules_.Nothing();
    if (extra >= 0) {
      tail = rules_.Sequence({rules_.Repeat(next(extra), 0, kUnbounded), json_.Space()});
      fresh = rules_.Optional(rules_.Sequence({extra, tail}));
    }
    size_t num_fresh = properties.size();  // places that can be reached without a member
    for (size_t i = 0; i < properties.size(); ++i) {
      if (properties[i].required) {
        num_fresh = i;
        break;
      }
    }
    for (size_t i = properties.size(); i-- > 0;) {
      const Property& property = properties[i];
      const bool has_fresh = i <= num_fresh;
      // Laid out once unless it is a rule.
      if (!property.required || (has_fresh && i > 0)) tail = Shared(path, tail);
      const ExprId rest = tail;
      tail = rules_.Sequence({next(property.pair), rest});
      if (!property.required) tail = rules_.Choice({tail, rest});
      if (!has_fresh) continue;
      const ExprId begin = rules_.Sequence({property.pair, rest});
      fresh = property.required ? begin : rules_.Choice({begin, Shared(path, fresh)});
    }
    return fresh;
  }

  const SchemaDocument document_;
  Rules& rules_;
  JsonRules json_;
  std::map<std::string, RuleId> compiled_;  // by path
  size_t num_schemas_ = 0;
};

}  // namespace

StatusOr<RuleId> ParseJsonSchema(std::string_view schema, Rules& rules) {
  json::error_code error;
  json::parse_options options;
  options.max_depth = kMaxDepth;
  const json::value root =
      json::parse({schema.data(), schema.size()}, error, json::storage_ptr(), options);
  if (error) return InvalidArgument("the schema is not JSON: {}", error.message());
  return Compiler(root, rules).Compile();
}

RuleId AnyJsonObject(Rules& rules) {
  const RuleId rule = rules.AddRule("object");
  rules.Define(rule, JsonRules(rules).Object());
  return rule;
}

}  // namespace tandem::grammar

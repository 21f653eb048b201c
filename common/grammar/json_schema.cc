#include "common/grammar/json_schema.h"

#include <algorithm>
#include <boost/json.hpp>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/grammar/json_rules.h"
#include "common/grammar/schema_document.h"

namespace tandem::grammar {
namespace {

constexpr int kMaxDepth = 100;         // of the document
constexpr size_t kMaxSchemas = 20000;  // that are compiled: $ref may multiply them

class Compiler {
 public:
  Compiler(const json::value& root, Rules& rules) : document_(root), rules_(rules), json_(rules) {}

  StatusOr<RuleId> Compile() {
    const RuleId root = RuleAt("#", document_.root());
    while (!pending_.empty()) {
      const Pending next = std::move(pending_.back());
      pending_.pop_back();
      TANDEM_ASSIGN_OR_RETURN(const ExprId body, Schema(next.path, *next.schema));
      rules_.Define(next.rule, body);
    }
    return root;
  }

 private:
  using Path = const std::string&;
  using Types = std::vector<std::string>;

  struct Pending {
    RuleId rule;
    std::string path;
    const json::value* schema;
  };

  // A schema that is referred to is compiled once, and later: it may refer to itself, and chains of
  // references may be long.
  RuleId RuleAt(const std::string& path, const json::value& schema) {
    const auto [it, is_new] = compiled_.try_emplace(path, -1);
    if (is_new) {
      it->second = rules_.AddRule(path);
      pending_.push_back({it->second, path, &schema});
    }
    return it->second;
  }

  // `outer`: the types that what is around it allows; null: all.
  StatusOr<ExprId> Schema(Path path, const json::value& schema, const Types* outer = nullptr) {
    if (++num_schemas_ > kMaxSchemas) return InvalidArgument("the schema is too large");
    TANDEM_RETURN_IF_ERROR(rules_.CheckSize());
    static const json::object kAny;
    const bool* all = schema.if_bool();
    if (all != nullptr && !*all) return rules_.Never();
    if (all != nullptr && outer == nullptr) return json_.Value();
    const json::object* object = all != nullptr ? &kAny : schema.if_object();
    if (object == nullptr) return WrongSchema(path, "a schema is an object or a boolean");
    TANDEM_RETURN_IF_ERROR(CheckWords(path, *object));
    TANDEM_ASSIGN_OR_RETURN(Types types, TypesOf(path, *object));
    if (outer != nullptr) types = object->contains("type") ? Within(types, *outer) : *outer;
    if (outer != nullptr && types.empty()) return rules_.Never();
    for (const char* word : {"$ref", "anyOf", "oneOf", "allOf"}) {
      if (!object->contains(word)) continue;
      const bool typed = outer != nullptr || object->contains("type");
      return Combined(path, *object, word, typed ? &types : nullptr);
    }
    if (object->contains("const") || object->contains("enum")) {
      return Constants(path, *object, types);
    }
    if (types.empty()) return json_.Value();
    std::vector<ExprId> choices;
    for (const std::string& type : types) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice, OfType(path, *object, type));
      choices.push_back(choice);
    }
    return rules_.Choice(std::move(choices));
  }

  // A keyword that stands for the whole schema, but for annotations and what narrows or widens the
  // types.
  StatusOr<ExprId> Combined(Path path, const json::object& schema, std::string_view word,
                            const Types* types) {
    for (const auto& [key, value] : schema) {
      if (View(key) == word || key == "type" || key == "nullable" || IsAnnotation(View(key))) {
        continue;
      }
      return SchemaNotSupported(path, "'{}' beside '{}'", View(key), word);
    }
    const json::value& value = schema.at({word.data(), word.size()});
    StatusOr<ExprId> expr = word == "$ref" ? Reference(path, value, types)
                                           : OfSeveral(At(path, word), value, word, types);
    if (!expr.ok() || !IsNullable(schema)) return expr;
    return rules_.Choice({*expr, rules_.Literal("null")});
  }

  StatusOr<ExprId> OfSeveral(Path path, const json::value& value, std::string_view word,
                             const Types* types) {
    const json::array* list = value.if_array();
    if (list == nullptr || list->empty())
      return WrongSchema(path, "'{}' is a list of schemas", word);
    if (word == "allOf") return AllOf(path, *list, types);
    if (word == "oneOf") TANDEM_RETURN_IF_ERROR(document_.CheckDisjoint(path, *list));
    std::vector<ExprId> choices;
    for (size_t i = 0; i < list->size(); ++i) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId choice,
                              Schema(At(path, std::to_string(i)), (*list)[i], types));
      choices.push_back(choice);
    }
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> Reference(Path path, const json::value& value, const Types* types) {
    TANDEM_ASSIGN_OR_RETURN(const SchemaDocument::Target target, document_.Resolve(path, value));
    if (types != nullptr) {
      // It is compiled once, so not with types that hold in this place.
      TANDEM_ASSIGN_OR_RETURN(const json::object* object, document_.Plain(path, *target.schema));
      TANDEM_ASSIGN_OR_RETURN(const Types own, TypesOf(path, *object));
      if (!object->contains("type") || Within(own, *types) != own) {
        return SchemaNotSupported(path, "'type' around a '$ref' to what may be of another type");
      }
    }
    return rules_.Rule(RuleAt(target.path, *target.schema));
  }

  // ---- allOf and oneOf

  StatusOr<ExprId> AllOf(Path path, const json::array& list, const Types* types) {
    if (list.size() == 1) return Schema(At(path, "0"), list[0], types);
    if (types != nullptr && Within({"object"}, *types).empty()) return rules_.Never();
    ObjectWords all;
    all.closed = true;
    for (size_t i = 0; i < list.size(); ++i) {
      const std::string part = At(path, std::to_string(i));
      TANDEM_ASSIGN_OR_RETURN(const json::object* object, document_.Plain(part, list[i]));
      for (const auto& [key, value] : *object) {
        if (IsAnnotation(View(key))) continue;
        if (key == "type" && value == json::value("object")) continue;
        if (key != "properties" && key != "required") {
          return SchemaNotSupported(part, "'{}' in 'allOf'", View(key));
        }
      }
      TANDEM_RETURN_IF_ERROR(AddWords(part, *object, all));
    }
    std::set<std::string_view> names;
    for (const auto& [name, schema] : all.properties) {
      if (!names.insert(name).second) {
        return SchemaNotSupported(path, "property '{}' twice in 'allOf'", name);
      }
    }
    return Object(path, all);
  }

  // ---- one type

  // `types`: of which they may be; empty: any.
  StatusOr<ExprId> Constants(Path path, const json::object& schema, const Types& types) {
    for (const auto& [key, value] : schema) {
      if (key != "const" && key != "enum" && key != "type" && key != "nullable" &&
          !IsAnnotation(View(key))) {
        return SchemaNotSupported(path, "'{}' beside 'enum' or 'const'", View(key));
      }
    }
    std::vector<const json::value*> values;
    const json::value* one = schema.if_contains("const");
    if (const json::value* all = schema.if_contains("enum")) {
      const json::array* list = all->if_array();
      if (list == nullptr) return WrongSchema(path, "'enum' is a list of values");
      for (const json::value& value : *list) {
        if (one == nullptr || value == *one) values.push_back(&value);
      }
    } else {
      values.push_back(one);
    }
    std::vector<ExprId> choices;
    for (const json::value* value : values) {
      TANDEM_RETURN_IF_ERROR(CheckConstant(path, *value));
      const bool fits = types.empty() || std::any_of(types.begin(), types.end(), [&](auto& type) {
                          return IsOfType(*value, type);
                        });
      if (fits) choices.push_back(rules_.Literal(Written(*value)));
    }
    return rules_.Choice(std::move(choices));
  }

  StatusOr<ExprId> OfType(Path path, const json::object& schema, std::string_view type) {
    if (type == "object") {
      ObjectWords words;
      TANDEM_RETURN_IF_ERROR(AddWords(path, schema, words));
      words.closed = schema.contains("properties");
      return Object(path, words);
    }
    if (type == "array") return Array(path, schema);
    if (type == "string") return String(path, schema);
    if (type == "boolean") return json_.Boolean();
    if (type == "null") return rules_.Literal("null");
    TANDEM_ASSIGN_OR_RETURN(const NumberRange range, RangeOf(path, schema));
    return type == "integer" && !range.min && !range.max ? json_.Integer()
           : type == "integer"                           ? json_.IntegerIn(range)
                                                         : json_.NumberIn(range);
  }

  StatusOr<ExprId> String(Path path, const json::object& schema) {
    TANDEM_ASSIGN_OR_RETURN(const int min, CountOf(path, schema, "minLength", 0));
    TANDEM_ASSIGN_OR_RETURN(const int max, CountOf(path, schema, "maxLength", kUnbounded));
    if (max != kUnbounded && max < min)
      return WrongSchema(path, "'maxLength' is below 'minLength'");
    const json::value* pattern = schema.if_contains("pattern");
    const json::value* format = schema.if_contains("format");
    if (pattern == nullptr && format == nullptr) return json_.StringOfLength(min, max);
    // A format beside a pattern is an annotation, as JSON Schema has it: who sends both means the
    // same with both.
    const json::value& text = pattern != nullptr ? *pattern : *format;
    if (!text.is_string()) return WrongSchema(path, "'pattern' and 'format' are strings");
    const std::string_view view = View(text.get_string());
    const StatusOr<ExprId> expr = pattern != nullptr ? json_.StringWithPattern(view, {min, max})
                                                     : json_.StringWithFormat(view, {min, max});
    if (expr.ok()) return *expr;
    return expr.status().code() == StatusCode::kUnimplemented
               ? Unsupported("{}: {}", path, Message(expr.status()))
               : InvalidArgument("{}: {}", path, Message(expr.status()));
  }

  StatusOr<ExprId> Array(Path path, const json::object& schema) {
    TANDEM_ASSIGN_OR_RETURN(const int min, CountOf(path, schema, "minItems", 0));
    TANDEM_ASSIGN_OR_RETURN(int max, CountOf(path, schema, "maxItems", kUnbounded));
    std::vector<ExprId> first;
    const json::value* items = schema.if_contains("items");
    const json::value* prefix = schema.if_contains("prefixItems");
    const char* word = "items";
    if (items != nullptr && items->is_array()) {
      // Older drafts: `items` is what prefixItems is now. More items only if that is said.
      static const json::value kNone = false;
      if (prefix != nullptr) return WrongSchema(path, "a list as 'items' beside 'prefixItems'");
      prefix = std::exchange(items, schema.if_contains("additionalItems"));
      if (items == nullptr) items = &kNone;
      word = "additionalItems";
    }
    if (prefix != nullptr) {
      if (!prefix->is_array()) return WrongSchema(path, "'prefixItems' is a list of schemas");
      for (size_t i = 0; i < prefix->get_array().size(); ++i) {
        TANDEM_ASSIGN_OR_RETURN(
            const ExprId item,
            Schema(At(At(path, "prefixItems"), std::to_string(i)), prefix->get_array()[i]));
        first.push_back(item);
      }
    }
    const int count = static_cast<int>(first.size());
    ExprId item = -1;
    if (items != nullptr && *items == json::value(false)) {
      max = max == kUnbounded ? count : std::min(max, count);
    } else if (items != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(item, Schema(At(path, word), *items));
      item = Shared(path, item);  // the first has a place of its own
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

  // What is said of an object's members, by one schema or by several.
  struct ObjectWords {
    std::vector<std::pair<std::string_view, const json::value*>> properties = {};
    std::vector<std::string_view> required = {};
    const json::value* additional = nullptr;
    const json::value* names = nullptr;  // 'propertyNames'
    bool closed = false;                 // without `additional`: only what is named
  };

  Status AddWords(Path path, const json::object& schema, ObjectWords& words) {
    if (const json::value* list = schema.if_contains("properties")) {
      if (!list->is_object()) return WrongSchema(path, "'properties' is an object of schemas");
      for (const auto& [name, value] : list->get_object()) {
        words.properties.emplace_back(View(name), &value);
      }
    }
    if (const json::value* list = schema.if_contains("required")) {
      const json::array* names = list->if_array();
      if (names == nullptr) return WrongSchema(path, "'required' is a list of names");
      for (const json::value& name : *names) {
        if (!name.is_string()) return WrongSchema(path, "'required' is a list of names");
        words.required.push_back(View(name.get_string()));
      }
    }
    words.additional = schema.if_contains("additionalProperties");
    words.names = schema.if_contains("propertyNames");
    return OkStatus();
  }

  struct Property {
    ExprId pair = -1;
    bool required = false;
  };

  StatusOr<ExprId> Object(Path path, const ObjectWords& words) {
    if (words.properties.empty() && words.required.empty() && words.additional == nullptr &&
        words.names == nullptr && !words.closed) {
      return json_.Object();
    }
    // A property without a schema of its own.
    bool open =
        words.additional == nullptr ? !words.closed : *words.additional != json::value(false);
    ExprId other = words.additional == nullptr ? json_.Value() : rules_.Never();
    if (words.additional != nullptr && open) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId value,
                              Schema(At(path, "additionalProperties"), *words.additional));
      other = Shared(path, value);
    }
    const std::set<std::string_view> required(words.required.begin(), words.required.end());
    std::vector<Property> properties;
    std::vector<std::string_view> names;
    const auto add = [&](std::string_view name, ExprId value) {
      const std::string key = json::serialize(json::string_view(name.data(), name.size()));
      properties.push_back({Pair(rules_.Literal(key), value), required.contains(name)});
      names.push_back(name);
    };
    std::set<std::string_view> known;
    for (const auto& [name, schema] : words.properties) {
      TANDEM_ASSIGN_OR_RETURN(const ExprId value,
                              Schema(At(At(path, "properties"), name), *schema));
      add(name, value);
      known.insert(name);
    }
    ExprId key = -1;
    if (words.names != nullptr) {
      TANDEM_ASSIGN_OR_RETURN(const NameWords allowed, PropertyNames(path, words));
      key = allowed.key;
      if (allowed.listed) {
        open = false;  // they are named now
        for (const std::string_view name : allowed.list) {
          if (known.insert(name).second) add(name, other);
        }
        other = rules_.Never();  // required, and not of the list
      }
    }
    for (const std::string_view name : words.required) {
      if (known.insert(name).second) add(name, other);
    }
    ExprId extra = -1;
    if (open) {
      if (key < 0) key = names.empty() ? json_.String() : json_.StringExcept(names);
      extra = Shared(path, Pair(key, other));
    }
    return rules_.Sequence({rules_.Literal("{"), json_.Space(), Members(path, properties, extra),
                            rules_.Literal("}")});
  }

  // What 'propertyNames' says: a list of names, what they match, or nothing.
  struct NameWords {
    bool listed = false;
    std::vector<std::string_view> list = {};
    ExprId key = -1;
  };

  StatusOr<NameWords> PropertyNames(Path path, const ObjectWords& words) {
    NameWords out;
    if (*words.names == json::value(true)) return out;
    const std::string below = At(path, "propertyNames");
    TANDEM_ASSIGN_OR_RETURN(const json::object* schema, document_.Plain(below, *words.names));
    const json::value* const list = schema->if_contains("enum");
    out.listed = list != nullptr;
    bool narrows = false;
    for (const auto& [key, value] : *schema) {
      if (IsAnnotation(View(key)) || (key == "type" && value == json::value("string"))) continue;
      narrows = true;
      const bool known = out.listed ? key == "enum"
                                    : key == "pattern" || key == "format" || key == "minLength" ||
                                          key == "maxLength";
      if (!known) return SchemaNotSupported(below, "'{}'", View(key));
    }
    if (!narrows) return out;
    if (!words.properties.empty() || (!out.listed && !words.required.empty())) {
      return SchemaNotSupported(path, "'propertyNames' beside properties that are named");
    }
    if (!out.listed) {
      TANDEM_ASSIGN_OR_RETURN(out.key, String(below, *schema));
      return out;
    }
    if (!list->is_array()) return WrongSchema(below, "'enum' is a list of values");
    for (const json::value& name : list->get_array()) {
      if (name.is_string()) out.list.push_back(View(name.get_string()));
    }
    return out;
  }

  ExprId Pair(ExprId key, ExprId value) {
    return rules_.Sequence({key, rules_.Literal(":"), json_.Space(), value});
  }

  ExprId Shared(Path path, ExprId body) {
    const RuleId rule = rules_.AddRule(path);
    rules_.Define(rule, body);
    return rules_.Rule(rule);
  }

  // The members, in order: optional ones may be left out, commas stand between those that are
  // there. From the last on, as what may follow with a member before it and without one.
  ExprId Members(Path path, const std::vector<Property>& properties, ExprId extra) {
    constexpr size_t kMaxNested = 32;
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
      Property property = properties[i];
      const bool has_fresh = i <= num_fresh;
      // What is used twice is a rule; a rule now and then keeps expressions from nesting deeply.
      const bool twice = has_fresh && i > 0;
      if (twice) property.pair = Shared(path, property.pair);
      if (!property.required || twice || i % kMaxNested == 0) tail = Shared(path, tail);
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
  std::vector<Pending> pending_;
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

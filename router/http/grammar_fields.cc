// The fields that say what form the reply has.
#include <fmt/format.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

namespace json = boost::json;
using Kind = grammar::GrammarSpec::Kind;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

FieldError Set(const std::string& param, Kind kind, std::string text, ApiRequest& out) {
  if (out.grammar.kind != Kind::kNone) {
    return InvalidRequest(param,
                          fmt::format("'{}' and '{}' both say what form the reply has; send one.",
                                      out.grammar_param, param),
                          "invalid_value");
  }
  out.grammar = {kind, std::move(text)};
  out.grammar_param = param;
  return std::nullopt;
}

// A schema as JSON, or as text that is JSON.
FieldError ReadSchema(const std::string& param, const json::value& v, ApiRequest& out) {
  if (v.is_string()) return Set(param, Kind::kJsonSchema, std::string(View(v.get_string())), out);
  if (!v.is_object() && !v.is_bool()) return WrongType(param, "an object or a string", v);
  return Set(param, Kind::kJsonSchema, json::serialize(v), out);
}

FieldError ReadRegex(const std::string& param, const json::value& v, ApiRequest& out) {
  std::string text;
  if (FieldError error = ReadString(param, v, text)) return error;
  return Set(param, Kind::kRegex, std::move(text), out);
}

FieldError ReadEbnf(const std::string& param, const json::value& v, ApiRequest& out) {
  std::string text;
  if (FieldError error = ReadString(param, v, text)) return error;
  return Set(param, Kind::kEbnf, std::move(text), out);
}

FieldError ReadChoice(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array of strings", v);
  return Set(param, Kind::kChoice, json::serialize(v), out);
}

// The members of OpenAI's json_schema, in a member of their own (chats) or beside `type`
// (responses). `strict: false` would allow what is not in the schema; nothing does here.
FieldError ReadNamedSchema(const std::string& param, const json::object& format, ApiRequest& out) {
  const json::value* schema = nullptr;
  for (const auto& [key, value] : format) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    std::string ignored;
    bool strict = false;
    FieldError error;
    if (View(key) == "schema") {
      schema = &value;
    } else if (View(key) == "name" || View(key) == "description") {
      if (!value.is_null()) error = ReadString(name, value, ignored);
    } else if (View(key) == "strict") {
      if (!value.is_null()) error = ReadBool(name, value, strict);
    } else if (View(key) != "type") {
      error = UnknownField(name);
    }
    if (error) return error;
  }
  if (schema == nullptr || schema->is_null()) return MissingField(param + ".schema");
  if (!schema->is_object()) return WrongType(param + ".schema", "an object", *schema);
  return ReadSchema(param + ".schema", *schema, out);
}

// `format`: an object with `type`. `nested`: json_schema has its members in one of that name.
FieldError ReadFormat(const std::string& param, const json::value& v, bool nested,
                      ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  const json::object& format = v.get_object();
  const json::value* const type = format.if_contains("type");
  if (type == nullptr) return MissingField(param + ".type");
  std::string name;
  if (FieldError error = ReadString(param + ".type", *type, name)) return error;
  if (name == "json_schema") {
    if (!nested) return ReadNamedSchema(param, format, out);
    const json::value* const schema = format.if_contains("json_schema");
    if (schema == nullptr) return MissingField(param + ".json_schema");
    if (!schema->is_object()) return WrongType(param + ".json_schema", "an object", *schema);
    if (format.size() > 2) return WrongValue(param, "the members 'type' and 'json_schema'");
    return ReadNamedSchema(param + ".json_schema", schema->get_object(), out);
  }
  if (name != "text" && name != "json_object") {
    return NotSupported(param + ".type", "there are 'text', 'json_object' and 'json_schema'");
  }
  for (const auto& [key, value] : format) {
    if (View(key) != "type" && !value.is_null()) {
      return UnknownField(fmt::format("{}.{}", param, View(key)));
    }
  }
  return name == "text" ? std::nullopt : Set(param, Kind::kJsonObject, "", out);
}

}  // namespace

FieldError ReadResponseFormat(const std::string& param, const json::value& v, ApiRequest& out) {
  return ReadFormat(param, v, /*nested=*/true, out);
}

FieldError ReadTextFormat(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) == "verbosity") {
      if (!value.is_null()) return NotSupported(name, "the model has no such setting");
    } else if (View(key) != "format") {
      return UnknownField(name);
    } else if (!value.is_null()) {
      if (FieldError error = ReadFormat(name, value, /*nested=*/false, out)) return error;
      out.text_format = json::serialize(value);
    }
  }
  return std::nullopt;
}

FieldError ReadGuided(const std::string& param, const json::value& v, ApiRequest& out) {
  if (param == "guided_json") return ReadSchema(param, v, out);
  if (param == "guided_regex") return ReadRegex(param, v, out);
  if (param == "guided_choice") return ReadChoice(param, v, out);
  return ReadEbnf(param, v, out);
}

FieldError ReadStructuredOutputs(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  bool is_set = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (value.is_null()) continue;
    FieldError error;
    bool flag = false;
    if (View(key) == "json") {
      error = ReadSchema(name, value, out);
    } else if (View(key) == "regex") {
      error = ReadRegex(name, value, out);
    } else if (View(key) == "choice") {
      error = ReadChoice(name, value, out);
    } else if (View(key) == "grammar") {
      error = ReadEbnf(name, value, out);
    } else if (View(key) == "json_object") {
      error = ReadBool(name, value, flag);
      if (!error && !flag) continue;
      if (!error) error = Set(name, Kind::kJsonObject, "", out);
    } else {
      error = NotSupported(name, "there are 'json', 'regex', 'choice', 'grammar', 'json_object'");
    }
    if (error) return error;
    is_set = true;
  }
  if (is_set) return std::nullopt;
  return InvalidRequest(param,
                        fmt::format("'{}' says no form: it has one of the members 'json', 'regex', "
                                    "'choice', 'grammar', and 'json_object': true.",
                                    param),
                        "invalid_value");
}

}  // namespace tandem::http

// What a chat says beside its messages: for its template, and of tools.
#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cctype>
#include <string_view>
#include <utility>

#include "router/http/request_fields.h"
#include "router/text/template_value.h"

namespace tandem::http {

namespace json = boost::json;

namespace {

constexpr size_t kMaxTools = 128, kMaxToolNameBytes = 64;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

FieldError ReadToolName(const std::string& param, const json::value& v, std::string& out) {
  if (FieldError error = ReadString(param, v, out)) return error;
  const bool fits = !out.empty() && out.size() <= kMaxToolNameBytes;
  if (!fits || !std::all_of(out.begin(), out.end(), [](unsigned char c) {
        return (c < 0x80 && std::isalnum(c) != 0) || c == '_' || c == '-';
      })) {
    return WrongValue(param, fmt::format("1 to {} of A-Z a-z 0-9 _ -", kMaxToolNameBytes));
  }
  return std::nullopt;
}

// {"name": ...}
FieldError ReadNameAlone(const std::string& param, const json::value& v, std::string& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) != "name") return UnknownField(name);
    if (FieldError error = ReadToolName(name, value, out)) return error;
  }
  return out.empty() ? MissingField(param + ".name") : FieldError();
}

FieldError CheckParameters(const std::string& param, const json::value& v) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  const json::value* type = v.get_object().if_contains("type");
  if (type != nullptr && *type != "object") return WrongValue(param + ".type", "'object'");
  return std::nullopt;
}

// What a function is. `shown` becomes that in the order in which models were trained on it.
FieldError ReadFunction(const std::string& param, const json::value& v, json::object& shown,
                        ApiTool& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  std::string text;
  const json::object& function = v.get_object();
  for (const auto& [key, value] : function) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "name") {
      error = ReadToolName(name, value, text);
    } else if (View(key) == "description") {
      if (!value.is_null()) error = ReadString(name, value, text);
    } else if (View(key) == "parameters") {
      if (!value.is_null()) error = CheckParameters(name, value);
    } else if (View(key) == "strict") {
      if (!value.is_null()) error = ReadBool(name, value, out.strict);
    } else {
      error = UnknownField(name);
    }
    if (error) return error;
  }
  for (const char* key : {"name", "description", "parameters"}) {
    const json::value* value = function.if_contains(key);
    if (value != nullptr && !value->is_null()) shown.emplace(key, *value);
  }
  if (!shown.contains("name")) return MissingField(param + ".name");
  json::object schema = {{"type", "object"}};
  if (const json::value* parameters = shown.if_contains("parameters")) {
    for (const auto& [key, value] : parameters->get_object()) schema[key] = value;
  } else {  // OpenAI: an empty parameter list
    schema["properties"] = json::object();
    schema["additionalProperties"] = false;
  }
  out.parameters = json::serialize(schema);
  return std::nullopt;
}

// Chats have the function in a member; responses have its members beside the type.
FieldError ReadTool(const std::string& param, const json::value& v, bool flat,
                    std::string& tool_name, ApiTool& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  json::object shown = {{"type", "function"}}, function, rest;
  bool has_type = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "type") {
      has_type = true;
      if (value != "function") error = NotSupported(name, "only tools of type 'function' are");
    } else if (flat) {
      rest.emplace(key, value);
    } else if (View(key) == "function") {
      error = ReadFunction(name, value, function, out);
    } else {
      error = UnknownField(name);
    }
    if (error) return error;
  }
  if (!has_type) return MissingField(param + ".type");
  if (flat) {
    if (FieldError error = ReadFunction(param, std::move(rest), function, out)) return error;
  }
  if (function.empty()) return MissingField(param + ".function");
  tool_name = std::string(function.at("name").get_string());
  shown.emplace("function", std::move(function));
  out.json = json::serialize(shown);
  out.definition = text::ToTemplateValue(shown);
  return std::nullopt;
}

}  // namespace

FieldError ReadDocuments(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& documents = v.get_array();
  for (size_t i = 0; i < documents.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", param, i);
    if (!documents[i].is_object()) return WrongType(name, "an object", documents[i]);
    for (const auto& [key, value] : documents[i].get_object()) {
      if (!value.is_string()) {
        return WrongType(fmt::format("{}.{}", name, View(key)), "a string", value);
      }
    }
  }
  out.documents = text::ToTemplateValue(v);
  return std::nullopt;
}

FieldError ReadTemplateKwargs(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    for (const std::string_view field :
         {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}) {
      if (View(key) == field) {
        return NotSupported(name, fmt::format("send '{}' as a field of the request", field));
      }
    }
    for (const std::string_view reserved : {"chat_template", "tokenize"}) {
      if (View(key) == reserved) return NotSupported(name, "the model's own template is used");
    }
    out.template_kwargs.emplace_back(std::string(View(key)), text::ToTemplateValue(value));
  }
  return std::nullopt;
}

FieldError ReadTools(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& tools = v.get_array();
  const bool flat = out.endpoint == Endpoint::kResponses;
  if (flat) out.tools_json = json::serialize(v);
  if (tools.size() > kMaxTools)
    return WrongValue(param, fmt::format("at most {} tools", kMaxTools));
  for (size_t i = 0; i < tools.size(); ++i) {
    std::string name;
    FieldError error =
        ReadTool(fmt::format("{}[{}]", param, i), tools[i], flat, name, out.tools.emplace_back());
    if (error) return error;
    if (std::find(out.tool_names.begin(), out.tool_names.end(), name) != out.tool_names.end()) {
      return WrongValue(fmt::format("{}[{}]{}.name", param, i, flat ? "" : ".function"),
                        "each name once");
    }
    out.tool_names.push_back(std::move(name));
  }
  return std::nullopt;
}

FieldError ReadToolChoice(const std::string& param, const json::value& v, ApiRequest& out) {
  const bool flat = out.endpoint == Endpoint::kResponses;
  if (flat) out.tool_choice_json = json::serialize(v);
  if (v == "none") return out.tool_choice = ToolChoice::kNone, std::nullopt;
  if (v == "auto") return out.tool_choice = ToolChoice::kAuto, std::nullopt;
  if (v == "required") return out.tool_choice = ToolChoice::kRequired, std::nullopt;
  constexpr std::string_view kWanted = "'none', 'auto', 'required' or a function";
  if (v.is_string()) return WrongValue(param, kWanted);
  if (!v.is_object()) return WrongType(param, kWanted, v);
  bool has_type = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "type") {
      has_type = true;
      if (value != "function") error = NotSupported(name, "only 'function' is");
    } else if (flat && View(key) == "name") {
      error = ReadToolName(name, value, out.called_tool);
    } else if (!flat && View(key) == "function") {
      error = ReadNameAlone(name, value, out.called_tool);
    } else {
      error = UnknownField(name);
    }
    if (error) return error;
  }
  if (!has_type) return MissingField(param + ".type");
  if (out.called_tool.empty()) return MissingField(param + (flat ? ".name" : ".function"));
  out.tool_choice = ToolChoice::kNamed;
  return std::nullopt;
}

FieldError ReadReasoningEffort(const std::string& param, const json::value& v, ApiRequest& out) {
  if (FieldError error = ReadString(param, v, out.reasoning_effort)) return error;
  for (const std::string_view effort :
       {"none", "minimal", "low", "medium", "high", "xhigh", "max"}) {
    if (out.reasoning_effort == effort) return std::nullopt;
  }
  return WrongValue(param, "one of 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'");
}

FieldError ReadReasoning(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (value.is_null()) continue;
    if (View(key) == "effort") {
      if (FieldError error = ReadReasoningEffort(name, value, out)) return error;
    } else if (View(key) == "summary" || View(key) == "generate_summary") {
      return NotSupported(name, "what the model thought is given as it is");
    } else {
      return UnknownField(name);
    }
  }
  return std::nullopt;
}

}  // namespace tandem::http

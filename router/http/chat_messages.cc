// `messages` of a chat.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <utility>

#include "router/http/json_reader.h"
#include "router/http/request_fields.h"
#include "router/text/template_value.h"

namespace tandem::http {

namespace json = boost::json;

namespace {

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

// An array of {"type": "text", "text": ...}. Parts are joined by a new line, as vLLM does.
FieldError ReadContentParts(const std::string& param, const json::array& parts, std::string& out) {
  if (parts.empty()) return WrongValue(param, "at least one part");
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", param, i);
    if (!parts[i].is_object()) return WrongType(name, "an object", parts[i]);
    const json::object& part = parts[i].get_object();
    const json::value* type = part.if_contains("type");
    const json::value* text = part.if_contains("text");
    if (type == nullptr || !type->is_string()) {
      return InvalidRequest(name + ".type", "A content part needs a 'type'.", "missing_parameter");
    }
    if (View(type->get_string()) != "text") {
      return NotSupported(name + ".type", "only parts of type 'text' are");
    }
    for (const auto& [key, value] : part) {
      if (View(key) != "type" && View(key) != "text") {
        return NotSupported(fmt::format("{}.{}", name, View(key)), "a text part has type and text");
      }
    }
    if (text == nullptr) {
      return InvalidRequest(name + ".text", "A text part needs 'text'.", "missing_parameter");
    }
    std::string piece;
    if (FieldError error = ReadString(name + ".text", *text, piece)) return error;
    if (i > 0) out += '\n';
    out += piece;
  }
  return std::nullopt;
}

FieldError ReadContent(const std::string& param, const json::value& v, std::string& out) {
  if (v.is_array()) return ReadContentParts(param, v.get_array(), out);
  if (!v.is_string()) return WrongType(param, "a string or an array of text parts", v);
  return ReadString(param, v, out);
}

FieldError ReadRole(const std::string& param, const json::value& v, std::string& out) {
  if (FieldError error = ReadString(param, v, out)) return error;
  for (const std::string_view role : {"system", "developer", "user", "assistant", "tool"}) {
    if (out == role) return std::nullopt;
  }
  return WrongValue(param, "one of 'system', 'developer', 'user', 'assistant', 'tool'");
}

}  // namespace

FieldError ReadArguments(const std::string& param, const json::value& v, text::JinjaValue& out) {
  json::value parsed;
  const json::value* object = &v;
  if (v.is_string()) {
    parsed = json::object();
    if (!v.get_string().empty()) {
      if (FieldError error = ReadJson(View(v.get_string()), parsed)) {
        return WrongValue(param, "the text of a JSON object");
      }
    }
    object = &parsed;
  }
  if (!object->is_object()) {
    return WrongType(param, v.is_string() ? "the text of an object" : "a string", *object);
  }
  out = text::ToTemplateValue(*object);
  return std::nullopt;
}

namespace {

FieldError ReadCalledFunction(const std::string& param, const json::value& v, ApiToolCall& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  out.arguments = text::JinjaValue(text::JinjaValue::Map());
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "name") {
      error = ReadName(name, value, out.name);
    } else if (View(key) == "arguments") {
      if (!value.is_null()) error = ReadArguments(name, value, out.arguments);
    } else {
      error = UnknownField(name);
    }
    if (error) return error;
  }
  return out.name.empty() ? MissingField(param + ".name") : FieldError();
}

FieldError ReadToolCall(const std::string& param, const json::value& v, ApiToolCall& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "id") {
      if (!value.is_null()) error = ReadName(name, value, out.id);
    } else if (View(key) == "type") {
      if (value != "function") error = NotSupported(name, "only calls of type 'function' are");
    } else if (View(key) == "function") {
      error = ReadCalledFunction(name, value, out);
    } else if (View(key) != "index" && !value.is_null()) {  // of a delta, which says no more
      error = UnknownField(name);
    }
    if (error) return error;
  }
  return out.name.empty() ? MissingField(param + ".function") : FieldError();
}

FieldError ReadToolCalls(const std::string& param, const json::value& v, ApiMessage& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& calls = v.get_array();
  for (size_t i = 0; i < calls.size(); ++i) {
    FieldError error =
        ReadToolCall(fmt::format("{}[{}]", param, i), calls[i], out.tool_calls.emplace_back());
    if (error) return error;
  }
  return std::nullopt;
}

// vLLM's two names for it.
FieldError ReadReasoning(const std::string& param, const json::value& v, ApiMessage& out) {
  std::string text;
  if (FieldError error = ReadString(param, v, text)) return error;
  if (!out.reasoning.empty() && out.reasoning != text) {
    return WrongValue(param, "the same as its other name has; send one of them");
  }
  out.reasoning = std::move(text);
  return std::nullopt;
}

// A member that is there and not null, but for role and content.
FieldError ReadMember(const std::string& param, std::string_view key, const json::value& v,
                      ApiMessage& out) {
  if (key == "name") return ReadName(param, v, out.name);
  if (key == "tool_calls") return ReadToolCalls(param, v, out);
  if (key == "tool_call_id") return ReadName(param, v, out.tool_call_id);
  if (key == "reasoning_content" || key == "reasoning") return ReadReasoning(param, v, out);
  if (key == "refusal" || key == "audio" || key == "function_call" || key == "annotations") {
    if (v == json::array()) return std::nullopt;  // what a reply without them may have
    return NotSupported(param, "it is null here");
  }
  return UnknownField(param);
}

// What may stand in a message depends on who speaks.
FieldError CheckRole(const std::string& param, const ApiMessage& message, bool has_content) {
  const bool assistant = message.role == "assistant";
  if (!assistant && !message.tool_calls.empty()) {
    return WrongValue(param + ".tool_calls", "none: only an assistant calls");
  }
  if (!assistant && !message.reasoning.empty()) {
    return WrongValue(param + ".reasoning_content", "none: only an assistant reasons");
  }
  if (message.role != "tool" && !message.tool_call_id.empty()) {
    return WrongValue(param + ".tool_call_id", "none: only the role 'tool' answers a call");
  }
  if (!has_content && message.tool_calls.empty() && message.reasoning.empty()) {
    return InvalidRequest(param + ".content", "A message needs 'content'.", "missing_parameter");
  }
  return std::nullopt;
}

FieldError ReadMessage(const std::string& param, const json::value& v, ApiMessage& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  bool has_role = false, has_content = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    FieldError error;
    if (View(key) == "role") {
      has_role = true;
      error = ReadRole(name, value, out.role);
    } else if (value.is_null()) {
      continue;
    } else if (View(key) == "content") {
      has_content = true;
      error = ReadContent(name, value, out.content);
    } else {
      error = ReadMember(name, View(key), value, out);
    }
    if (error) return error;
  }
  if (!has_role) {
    return InvalidRequest(param + ".role", "A message needs a 'role'.", "missing_parameter");
  }
  return CheckRole(param, out, has_content);
}

}  // namespace

FieldError ReadMessages(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& array = v.get_array();
  if (array.empty()) return WrongValue(param, "at least one message");
  for (size_t i = 0; i < array.size(); ++i) {
    ApiMessage& message = out.messages.emplace_back();
    FieldError error = ReadMessage(fmt::format("{}[{}]", param, i), array[i], message);
    if (error) return error;
  }
  return std::nullopt;
}

}  // namespace tandem::http

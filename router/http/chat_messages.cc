// `messages` of a chat.
#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

namespace json = boost::json;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

// An array of {"type": "text", "text": ...}, joined.
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
  if (out == "system" || out == "user" || out == "assistant") return std::nullopt;
  return WrongValue(param, "one of 'system', 'user', 'assistant'");
}

FieldError ReadMessage(const std::string& param, const json::value& v, ApiMessage& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  bool has_role = false, has_content = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) == "role") {
      has_role = true;
      if (FieldError error = ReadRole(name, value, out.role)) return error;
    } else if (View(key) == "content") {
      has_content = true;
      if (FieldError error = ReadContent(name, value, out.content)) return error;
    } else if (!value.is_null()) {
      return NotSupported(name, "a message has role and content");
    }
  }
  if (!has_role) {
    return InvalidRequest(param + ".role", "A message needs a 'role'.", "missing_parameter");
  }
  if (!has_content) {
    return InvalidRequest(param + ".content", "A message needs 'content'.", "missing_parameter");
  }
  return std::nullopt;
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

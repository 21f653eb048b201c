// `input` of /v1/responses: a text, or messages as items, among them what an earlier response had
// as its output.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "router/http/request_fields.h"

namespace tandem::http {
namespace {

namespace json = boost::json;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

template <size_t N>
bool IsOneOf(std::string_view word, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A part of type input_text or output_text.
FieldError ReadPart(const std::string& param, const json::value& v, std::string& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  const json::object& part = v.get_object();
  // The last two: of what a response said.
  static constexpr std::array<std::string_view, 4> kKnown = {"type", "text", "annotations",
                                                             "logprobs"};
  for (const auto& [key, value] : part) {
    if (!value.is_null() && !IsOneOf(View(key), kKnown)) {
      return NotSupported(fmt::format("{}.{}", param, View(key)), "a part has type and text");
    }
  }
  std::string type;
  const json::value* const typed = part.if_contains("type");
  if (typed == nullptr) return MissingField(param + ".type");
  if (FieldError error = ReadString(param + ".type", *typed, type)) return error;
  if (type != "input_text" && type != "output_text") {
    return NotSupported(param + ".type", "only parts of type 'input_text' and 'output_text' are");
  }
  const json::value* const text = part.if_contains("text");
  if (text == nullptr) return MissingField(param + ".text");
  std::string piece;
  if (FieldError error = ReadString(param + ".text", *text, piece)) return error;
  out += piece;
  return std::nullopt;
}

FieldError ReadContent(const std::string& param, const json::value& v, std::string& out) {
  if (v.is_string()) return ReadString(param, v, out);
  if (!v.is_array()) return WrongType(param, "a string or an array of text parts", v);
  const json::array& parts = v.get_array();
  if (parts.empty()) return WrongValue(param, "at least one part");
  for (size_t i = 0; i < parts.size(); ++i) {
    if (FieldError error = ReadPart(fmt::format("{}[{}]", param, i), parts[i], out)) return error;
  }
  return std::nullopt;
}

FieldError ReadRole(const std::string& param, const json::value& v, std::string& out) {
  static constexpr std::array<std::string_view, 4> kRoles = {"system", "developer", "user",
                                                             "assistant"};
  if (FieldError error = ReadString(param, v, out)) return error;
  if (!IsOneOf(out, kRoles)) {
    return WrongValue(param, "one of 'system', 'developer', 'user', 'assistant'");
  }
  if (out == "developer") out = "system";
  return std::nullopt;
}

// Beside what it needs it may have what a response said of it.
FieldError ReadItem(const std::string& param, const json::value& v, ApiMessage& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  const json::object& item = v.get_object();
  for (const auto& [key, value] : item) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) == "type") {
      if (!value.is_string() || View(value.get_string()) != "message") {
        return NotSupported(name, "only items of type 'message' are");
      }
    } else if (View(key) == "role") {
      if (FieldError error = ReadRole(name, value, out.role)) return error;
    } else if (View(key) == "content") {
      if (FieldError error = ReadContent(name, value, out.content)) return error;
    } else if (View(key) != "id" && View(key) != "status" && !value.is_null()) {
      return NotSupported(name, "an item has type, role and content");
    }
  }
  for (const char* name : {"role", "content"}) {
    if (!item.contains(name)) return MissingField(fmt::format("{}.{}", param, name));
  }
  return std::nullopt;
}

}  // namespace

FieldError ReadInput(const std::string& param, const json::value& v, ApiRequest& out) {
  if (v.is_string()) {
    out.messages.push_back({"user", std::string(View(v.get_string()))});
    return std::nullopt;
  }
  if (!v.is_array()) return WrongType(param, "a string or an array of items", v);
  const json::array& items = v.get_array();
  if (items.empty()) return WrongValue(param, "at least one item");
  for (size_t i = 0; i < items.size(); ++i) {
    ApiMessage& message = out.messages.emplace_back();
    if (FieldError error = ReadItem(fmt::format("{}[{}]", param, i), items[i], message)) {
      return error;
    }
  }
  return std::nullopt;
}

}  // namespace tandem::http

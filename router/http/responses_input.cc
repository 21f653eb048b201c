// `input` of /v1/responses: a text, or items, among them what an earlier response had as its
// output: messages, calls of functions and what these answered, reasoning.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <initializer_list>
#include <string_view>
#include <utility>

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
  std::string type;
  const json::value* const typed = part.if_contains("type");
  if (typed == nullptr) return MissingField(param + ".type");
  if (FieldError error = ReadString(param + ".type", *typed, type)) return error;
  if (type != "input_text" && type != "output_text" && type != "reasoning_text") {
    return NotSupported(param + ".type",
                        "only parts of type 'input_text', 'output_text' and 'reasoning_text' are");
  }
  for (const auto& [key, value] : part) {
    if (!value.is_null() && !IsOneOf(View(key), kKnown)) {
      return NotSupported(fmt::format("{}.{}", param, View(key)), "a part has type and text");
    }
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

// Reads the members of an item into `read`, by name; `id` and `status`, which a response said of
// it, mean nothing here. REQUIRES: an object.
template <class F>
FieldError ReadMembers(const std::string& param, const json::object& item,
                       std::initializer_list<const char*> needed, F&& read) {
  for (const auto& [key, value] : item) {
    const std::string_view name = View(key);
    if (name == "type" || name == "id" || name == "status") continue;
    bool known = false;
    if (FieldError error = read(name, fmt::format("{}.{}", param, name), value, known))
      return error;
    if (!known && !value.is_null()) return UnknownField(fmt::format("{}.{}", param, name));
  }
  for (const char* name : needed) {
    if (!item.contains(name)) return MissingField(fmt::format("{}.{}", param, name));
  }
  return std::nullopt;
}

// What the model thought before the message or call that comes next.
struct Pending {
  std::string reasoning;
};

ApiMessage& AddMessage(ApiRequest& out, std::string role) {
  return out.messages.emplace_back(ApiMessage{.role = std::move(role), .content = {}});
}

// What an assistant did stands in one message, up to what others say.
ApiMessage& Assistant(ApiRequest& out, Pending& pending) {
  const bool goes_on =
      !out.messages.empty() && out.messages.back().role == "assistant" && pending.reasoning.empty();
  ApiMessage& message = goes_on ? out.messages.back() : AddMessage(out, "assistant");
  message.reasoning += std::exchange(pending.reasoning, {});
  return message;
}

// What it thought and then did not say: a reply that ran into a limit.
void EndTurn(ApiRequest& out, Pending& pending) {
  if (!pending.reasoning.empty()) Assistant(out, pending);
}

FieldError ReadMessageItem(const std::string& param, const json::object& item, Pending& pending,
                           ApiRequest& out) {
  std::string role, content;
  FieldError error = ReadMembers(
      param, item, {"role", "content"},
      [&](std::string_view name, const std::string& path, const json::value& v, bool& known) {
        known = name == "role" || name == "content";
        if (name == "role") return ReadRole(path, v, role);
        return name == "content" ? ReadContent(path, v, content) : FieldError();
      });
  if (error) return error;
  if (role != "assistant") EndTurn(out, pending);
  ApiMessage& message = AddMessage(out, role);
  message.content = std::move(content);
  message.reasoning = std::exchange(pending.reasoning, {});
  return std::nullopt;
}

FieldError ReadCallItem(const std::string& param, const json::object& item, Pending& pending,
                        ApiRequest& out) {
  ApiToolCall call;
  FieldError error = ReadMembers(
      param, item, {"call_id", "name", "arguments"},
      [&](std::string_view name, const std::string& path, const json::value& v, bool& known) {
        known = true;
        if (name == "call_id") return ReadName(path, v, call.id);
        if (name == "name") return ReadName(path, v, call.name);
        if (name == "arguments") return ReadArguments(path, v, call.arguments);
        known = false;
        return FieldError();
      });
  if (error) return error;
  Assistant(out, pending).tool_calls.push_back(std::move(call));
  return std::nullopt;
}

FieldError ReadOutputItem(const std::string& param, const json::object& item, Pending& pending,
                          ApiRequest& out) {
  EndTurn(out, pending);
  ApiMessage& message = AddMessage(out, "tool");
  return ReadMembers(
      param, item, {"call_id", "output"},
      [&](std::string_view name, const std::string& path, const json::value& v, bool& known) {
        known = name == "call_id" || name == "output";
        if (name == "call_id") return ReadName(path, v, message.tool_call_id);
        return name == "output" ? ReadContent(path, v, message.content) : FieldError();
      });
}

// Only what the model wrote itself: a summary is not it.
FieldError ReadReasoningItem(const std::string& param, const json::object& item, Pending& pending) {
  return ReadMembers(
      param, item, {},
      [&](std::string_view name, const std::string& path, const json::value& v, bool& known) {
        known = name == "content" || (name == "summary" && v == json::array());
        if (name != "content" || v.is_null()) return FieldError();
        return v == json::array() ? FieldError() : ReadContent(path, v, pending.reasoning);
      });
}

FieldError ReadItem(const std::string& param, const json::value& v, Pending& pending,
                    ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  const json::object& item = v.get_object();
  std::string type = "message";
  if (const json::value* typed = item.if_contains("type")) {
    if (FieldError error = ReadString(param + ".type", *typed, type)) return error;
  }
  if (type == "message") return ReadMessageItem(param, item, pending, out);
  if (type == "function_call") return ReadCallItem(param, item, pending, out);
  if (type == "function_call_output") return ReadOutputItem(param, item, pending, out);
  if (type == "reasoning") return ReadReasoningItem(param, item, pending);
  return NotSupported(param + ".type",
                      "there are 'message', 'function_call', 'function_call_output' and "
                      "'reasoning'");
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
  Pending pending;
  for (size_t i = 0; i < items.size(); ++i) {
    if (FieldError error = ReadItem(fmt::format("{}[{}]", param, i), items[i], pending, out)) {
      return error;
    }
  }
  EndTurn(out, pending);
  if (out.messages.empty()) return WrongValue(param, "an item that says something");
  return std::nullopt;
}

}  // namespace tandem::http

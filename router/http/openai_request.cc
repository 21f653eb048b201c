#include "router/http/openai_request.h"

#include <fmt/format.h>

#include <array>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <functional>
#include <limits>
#include <utility>

#include "router/http/json_reader.h"

namespace tandem::http {
namespace {

namespace json = boost::json;
using Result = std::optional<ApiError>;

std::string_view View(json::string_view s) { return {s.data(), s.size()}; }

std::string_view KindName(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
      return "an integer";
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "an array";
    case json::kind::object:
      return "an object";
  }
  return "unknown";
}

ApiError WrongType(std::string param, std::string_view wanted, const json::value& got) {
  std::string message =
      fmt::format("Invalid type for '{}': expected {}, but got {}.", param, wanted, KindName(got));
  return InvalidRequest(std::move(param), std::move(message), "invalid_type");
}

ApiError WrongValue(std::string param, std::string_view wanted) {
  std::string message = fmt::format("Invalid value for '{}': expected {}.", param, wanted);
  return InvalidRequest(std::move(param), std::move(message), "invalid_value");
}

ApiError NotSupported(std::string param, std::string_view why) {
  std::string message = fmt::format("'{}' is not supported: {}.", param, why);
  return InvalidRequest(std::move(param), std::move(message), "unsupported_parameter");
}

Result ReadString(const std::string& param, const json::value& v, std::string& out) {
  if (!v.is_string()) return WrongType(param, "a string", v);
  out = View(v.get_string());
  return std::nullopt;
}

// A string that ends up in messages and in the log.
Result ReadName(const std::string& param, const json::value& v, std::string& out) {
  if (v.is_string() && v.get_string().size() > kMaxNameBytes) {
    return WrongValue(param, fmt::format("at most {} bytes", kMaxNameBytes));
  }
  return ReadString(param, v, out);
}

Result ReadBool(const std::string& param, const json::value& v, bool& out) {
  if (!v.is_bool()) return WrongType(param, "a boolean", v);
  out = v.get_bool();
  return std::nullopt;
}

// `[low, high]`; `wanted` says so in words.
Result ReadNumber(const std::string& param, const json::value& v, double low, double high,
                  std::string_view wanted, float& out) {
  if (!v.is_number()) return WrongType(param, "a number", v);
  const double number = v.to_number<double>();
  if (!(number >= low && number <= high)) return WrongValue(param, wanted);
  out = static_cast<float>(number);
  return std::nullopt;
}

Result ReadInt(const std::string& param, const json::value& v, int32_t low, int32_t& out) {
  if (!v.is_int64() && !v.is_uint64()) return WrongType(param, "an integer", v);
  const int64_t value = v.is_int64() ? v.get_int64() : std::numeric_limits<int64_t>::max();
  if (value < low || value > std::numeric_limits<int32_t>::max()) {
    return WrongValue(
        param, fmt::format("an integer from {} to {}", low, std::numeric_limits<int32_t>::max()));
  }
  out = static_cast<int32_t>(value);
  return std::nullopt;
}

Result ReadSeed(const std::string& param, const json::value& v, ApiRequest& out) {
  if (v.is_int64()) {
    out.seed = static_cast<uint64_t>(v.get_int64());
  } else if (v.is_uint64()) {
    out.seed = v.get_uint64();
  } else {
    return WrongType(param, "an integer", v);
  }
  return std::nullopt;
}

Result ReadMaxTokens(const std::string& param, const json::value& v, ApiRequest& out) {
  int32_t value = 0;
  if (Result error = ReadInt(param, v, 1, value)) return error;
  if (out.max_tokens && *out.max_tokens != value) {
    return InvalidRequest(param, "max_tokens and max_completion_tokens differ; send one of them",
                          "invalid_value");
  }
  out.max_tokens = value;
  return std::nullopt;
}

Result ReadStop(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_string() && !v.is_array()) return WrongType(param, "a string or an array", v);
  if (v.is_string()) {
    out.stop.emplace_back(View(v.get_string()));
  } else {
    const json::array& array = v.get_array();
    if (array.size() > kMaxStopStrings) {
      return WrongValue(param, fmt::format("at most {} strings", kMaxStopStrings));
    }
    for (size_t i = 0; i < array.size(); ++i) {
      std::string& text = out.stop.emplace_back();
      if (Result error = ReadString(fmt::format("{}[{}]", param, i), array[i], text)) return error;
    }
  }
  for (const std::string& text : out.stop) {
    if (text.empty() || text.size() > kMaxStopBytes) {
      return WrongValue(param, fmt::format("strings of 1 to {} bytes", kMaxStopBytes));
    }
  }
  return std::nullopt;
}

Result ReadStreamOptions(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) != "include_usage") {
      return InvalidRequest(name, fmt::format("Unrecognized request argument: '{}'.", name),
                            "unknown_parameter");
    }
    if (value.is_null()) continue;
    if (Result error = ReadBool(name, value, out.include_usage)) return error;
  }
  return std::nullopt;
}

// An array of {"type": "text", "text": ...}, joined.
Result ReadContentParts(const std::string& param, const json::array& parts, std::string& out) {
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
    if (Result error = ReadString(name + ".text", *text, piece)) return error;
    out += piece;
  }
  return std::nullopt;
}

Result ReadMessage(const std::string& param, const json::value& v, ApiMessage& out) {
  if (!v.is_object()) return WrongType(param, "an object", v);
  bool has_role = false, has_content = false;
  for (const auto& [key, value] : v.get_object()) {
    const std::string name = fmt::format("{}.{}", param, View(key));
    if (View(key) == "role") {
      if (Result error = ReadString(name, value, out.role)) return error;
      has_role = true;
      if (out.role != "system" && out.role != "user" && out.role != "assistant") {
        return WrongValue(name, "one of 'system', 'user', 'assistant'");
      }
    } else if (View(key) == "content") {
      has_content = true;
      if (value.is_array()) {
        if (Result error = ReadContentParts(name, value.get_array(), out.content)) return error;
      } else if (value.is_string()) {
        out.content = View(value.get_string());
      } else {
        return WrongType(name, "a string or an array of text parts", value);
      }
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

Result ReadMessages(const std::string& param, const json::value& v, ApiRequest& out) {
  if (!v.is_array()) return WrongType(param, "an array", v);
  const json::array& array = v.get_array();
  if (array.empty()) return WrongValue(param, "at least one message");
  for (size_t i = 0; i < array.size(); ++i) {
    ApiMessage& message = out.messages.emplace_back();
    if (Result error = ReadMessage(fmt::format("{}[{}]", param, i), array[i], message)) {
      return error;
    }
  }
  return std::nullopt;
}

Result ReadPrompt(const std::string& param, const json::value& v, ApiRequest& out) {
  if (v.is_array()) {
    return NotSupported(param, "arrays of prompts or token ids are not; send one string");
  }
  if (Result error = ReadString(param, v, out.prompt)) return error;
  if (out.prompt.empty()) return WrongValue(param, "a string that is not empty");
  return std::nullopt;
}

bool IsInt(const json::value& v, int64_t wanted) { return v.is_int64() && v.get_int64() == wanted; }
bool IsFalse(const json::value& v) { return v.is_bool() && !v.get_bool(); }

// Fields of the OpenAI API that are not supported yet. A value that says what happens anyway is let
// through; null always is.
struct Unsupported {
  std::string_view name;
  bool (*neutral)(const json::value&);
  std::string_view why;
};

bool Never(const json::value&) { return false; }
bool IsOne(const json::value& v) { return IsInt(v, 1); }
bool IsEmptyObject(const json::value& v) { return v.is_object() && v.get_object().empty(); }
bool IsEmptyArray(const json::value& v) { return v.is_array() && v.get_array().empty(); }
bool IsTextFormat(const json::value& v) {
  if (!v.is_object() || v.get_object().size() != 1) return false;
  const json::value* type = v.get_object().if_contains("type");
  return type != nullptr && type->is_string() && View(type->get_string()) == "text";
}

constexpr std::array<Unsupported, 20> kUnsupported = {{
    {"n", IsOne, "only n = 1 is"},
    {"best_of", IsOne, "only best_of = 1 is"},
    {"echo", IsFalse, "the prompt is not echoed"},
    {"suffix", Never, "insertion is not available"},
    {"logprobs", IsFalse, "log probabilities are not returned"},
    {"top_logprobs", Never, "log probabilities are not returned"},
    {"logit_bias", IsEmptyObject, "tokens cannot be biased"},
    {"response_format", IsTextFormat, "only {\"type\": \"text\"} is"},
    {"tools", IsEmptyArray, "tools are not available"},
    {"tool_choice", Never, "tools are not available"},
    {"parallel_tool_calls", Never, "tools are not available"},
    {"functions", IsEmptyArray, "functions are not available"},
    {"function_call", Never, "functions are not available"},
    {"modalities", Never, "only text is"},
    {"audio", Never, "only text is"},
    {"prediction", Never, "predicted output is not available"},
    {"reasoning_effort", Never, "the model does not reason apart from its reply"},
    {"service_tier", Never, "there is one tier"},
    {"store", IsFalse, "nothing is stored"},
    {"metadata", IsEmptyObject, "nothing is stored"},
}};

Result ReadUnsupported(std::string_view name, const json::value& v) {
  for (const Unsupported& field : kUnsupported) {
    if (field.name != name) continue;
    if (field.neutral(v)) return std::nullopt;
    return NotSupported(std::string(name), field.why);
  }
  return InvalidRequest(std::string(name),
                        fmt::format("Unrecognized request argument: '{}'.", name),
                        "unknown_parameter");
}

Result ReadField(std::string_view name, const json::value& v, ApiRequest& out) {
  const std::string param(name);
  const bool chat = out.endpoint == Endpoint::kChat;
  if (name == "model") return ReadName(param, v, out.model);
  if (name == "messages" && chat) return ReadMessages(param, v, out);
  if (name == "prompt" && !chat) return ReadPrompt(param, v, out);
  if (v.is_null()) {  // for an optional field: as if it were not there, if it is known at all
    static constexpr std::array<std::string_view, 14> kOptional = {"stream",
                                                                   "stream_options",
                                                                   "stop",
                                                                   "seed",
                                                                   "temperature",
                                                                   "top_p",
                                                                   "min_p",
                                                                   "top_k",
                                                                   "max_tokens",
                                                                   "max_completion_tokens",
                                                                   "user",
                                                                   "presence_penalty",
                                                                   "frequency_penalty",
                                                                   "repetition_penalty"};
    for (const std::string_view known : kOptional) {
      if (name == known) return std::nullopt;
    }
    for (const Unsupported& field : kUnsupported) {
      if (field.name == name) return std::nullopt;
    }
    return ReadUnsupported(name, v);
  }
  if (name == "stream") return ReadBool(param, v, out.stream);
  if (name == "stream_options") return ReadStreamOptions(param, v, out);
  if (name == "stop") return ReadStop(param, v, out);
  if (name == "seed") return ReadSeed(param, v, out);
  if (name == "temperature") {
    return ReadNumber(param, v, 0, 2, "a number from 0 to 2", out.temperature);
  }
  if (name == "top_p") return ReadNumber(param, v, 1e-30, 1, "above 0, up to 1", out.top_p);
  if (name == "min_p") return ReadNumber(param, v, 0, 0.999999, "0 or more, below 1", out.min_p);
  if (name == "presence_penalty") {
    return ReadNumber(param, v, -2, 2, "a number from -2 to 2", out.presence_penalty);
  }
  if (name == "frequency_penalty") {
    return ReadNumber(param, v, -2, 2, "a number from -2 to 2", out.frequency_penalty);
  }
  if (name == "repetition_penalty") {
    return ReadNumber(param, v, 0.01, 100, "a number from 0.01 to 100", out.repetition_penalty);
  }
  if (name == "top_k") return ReadInt(param, v, 0, out.top_k);
  if (name == "max_tokens") return ReadMaxTokens(param, v, out);
  if (name == "max_completion_tokens" && chat) return ReadMaxTokens(param, v, out);
  if (name == "user") return ReadName(param, v, out.user);
  return ReadUnsupported(name, v);
}

Result CheckWhole(const json::object& object, ApiRequest& out) {
  const std::string content = out.endpoint == Endpoint::kChat ? "messages" : "prompt";
  for (const std::string& name : {std::string("model"), content}) {
    if (!object.contains(name)) {
      return InvalidRequest(name, fmt::format("Missing required parameter: '{}'.", name),
                            "missing_parameter");
    }
  }
  if (const json::value* options = object.if_contains("stream_options");
      options != nullptr && !options->is_null() && !out.stream) {
    return InvalidRequest("stream_options", "'stream_options' needs 'stream': true.",
                          "invalid_value");
  }
  return std::nullopt;
}

}  // namespace

size_t ApiRequest::num_text_bytes() const {
  size_t bytes = prompt.size();
  for (const ApiMessage& message : messages) bytes += message.content.size() + 16;
  return bytes;
}

std::optional<ApiError> ParseRequest(Endpoint endpoint, std::string_view body, ApiRequest& out) {
  out = {};
  out.endpoint = endpoint;
  json::value root;
  if (Result error = ReadJson(body, root)) return error;
  if (!root.is_object()) {
    return InvalidRequest({}, fmt::format("The body must be an object, not {}.", KindName(root)),
                          "invalid_type");
  }
  for (const auto& [key, value] : root.get_object()) {
    if (Result error = ReadField(View(key), value, out)) return error;
  }
  return CheckWhole(root.get_object(), out);
}

}  // namespace tandem::http

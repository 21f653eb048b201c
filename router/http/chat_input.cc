#include "router/http/chat_input.h"

#include <string>
#include <utility>

#include "router/http/json_fields.h"

namespace tandem::http {
namespace {

using Value = text::JinjaValue;

constexpr char kEffort[] = "reasoning_effort", kThinking[] = "enable_thinking";

// A template that does not know developers would leave out what they say, or refuse it.
std::string RoleFor(const ApiMessage& message, const text::ChatTemplate& chat) {
  if (message.role == "developer" && !chat.Mentions("developer")) return "system";
  return message.role;
}

// The order of keys is the one that models were trained on, where a template prints them all.
Value CallValue(const ApiToolCall& call) {
  Value::Map function;
  function.emplace_back("name", Value(call.name));
  function.emplace_back("arguments", call.arguments);
  Value::Map value;
  value.emplace_back("type", Value(std::string("function")));
  if (!call.id.empty()) value.emplace_back("id", Value(call.id));
  value.emplace_back("function", Value(std::move(function)));
  return Value(std::move(value));
}

Value MessageValue(const ApiMessage& message, const text::ChatTemplate& chat) {
  Value::Map value;
  value.emplace_back("role", Value(RoleFor(message, chat)));
  value.emplace_back("content", Value(message.content));
  if (!message.tool_calls.empty()) {
    Value::List calls;
    for (const ApiToolCall& call : message.tool_calls) calls.push_back(CallValue(call));
    value.emplace_back("tool_calls", Value(std::move(calls)));
  }
  if (!message.reasoning.empty()) value.emplace_back("reasoning_content", Value(message.reasoning));
  if (!message.tool_call_id.empty())
    value.emplace_back("tool_call_id", Value(message.tool_call_id));
  if (!message.name.empty()) value.emplace_back("name", Value(message.name));
  return Value(std::move(value));
}

}  // namespace

std::optional<ApiError> CheckTemplate(const ApiRequest& api, const text::ChatTemplate& chat) {
  if (!api.reasoning_effort.empty() && !chat.Mentions(kEffort) && !chat.Mentions(kThinking)) {
    return NotSupported(kEffort, "this model's chat template has no such setting");
  }
  return std::nullopt;
}

text::ChatInput ChatInputOf(const ApiRequest& api, const text::ChatTemplate& chat) {
  text::ChatInput input;
  input.messages.reserve(api.messages.size());
  for (const ApiMessage& message : api.messages) {
    input.messages.push_back(MessageValue(message, chat));
  }
  input.documents = api.documents;
  input.add_generation_prompt = api.add_generation_prompt;
  input.continue_final_message = api.continue_final_message;
  input.arguments = api.template_kwargs;
  if (!api.reasoning_effort.empty()) {
    Assign(input.arguments, kEffort, Value(api.reasoning_effort));
    if (Find(input.arguments, kThinking) == nullptr) {
      input.arguments.emplace_back(kThinking, Value(api.reasoning_effort != "none"));
    }
  }
  return input;
}

}  // namespace tandem::http

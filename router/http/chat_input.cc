#include "router/http/chat_input.h"

#include <fmt/format.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

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

// For a template that does not show the model its tools.
std::string ToolsInWords(const ApiRequest& api, const text::ToolFormat& format) {
  std::string words = "You may call these functions:\n";
  for (const ApiTool& tool : api.tools) words += tool.json + '\n';
  words += fmt::format(
      "\nTo call functions, reply with nothing but a JSON list of the calls, like this:\n"
      R"({}[{{"name": "function name", "{}": {{"argument name": "value"}}}}]{})",
      format.begin, format.arguments, format.end);
  return words;
}

bool IsSystem(const ApiMessage& message) {
  return message.role == "system" || message.role == "developer";
}

// As the end of the system message, or as one.
void AddToSystem(const std::string& words, std::vector<ApiMessage>& messages) {
  if (IsSystem(messages.front())) {
    messages.front().content += "\n\n" + words;
  } else {
    messages.insert(messages.begin(), {.role = "system", .content = words});
  }
}

void AddMessages(std::span<const ApiMessage> messages, const text::ChatTemplate& chat,
                 text::ChatInput& input) {
  input.messages.reserve(messages.size());
  for (const ApiMessage& message : messages) input.messages.push_back(MessageValue(message, chat));
}

text::ChatInput ChatInputOf(const ApiRequest& api, std::span<const ApiMessage> messages,
                            const text::ChatTemplate& chat) {
  text::ChatInput input;
  AddMessages(messages, chat, input);
  // With the choice "none" too, as vLLM does: what was said before may speak of them.
  if (!api.tools.empty()) {
    Value::List tools;
    for (const ApiTool& tool : api.tools) tools.push_back(tool.definition);
    input.tools = Value(std::move(tools));
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

// Whether the prompt ends within what the model thinks.
bool EndsInReasoning(const ApiRequest& api, std::string_view prompt,
                     const text::ReasoningMarks& marks) {
  if (api.continue_final_message) {  // where the message does
    const std::string& content = api.messages.back().content;
    const size_t begun = content.rfind(marks.begin), ended = content.rfind(marks.end);
    return begun != content.npos && (ended == content.npos || ended < begun);
  }
  const size_t end = prompt.find_last_not_of(" \n\r\t");
  return end != prompt.npos && prompt.substr(0, end + 1).ends_with(marks.begin);
}

}  // namespace

std::optional<ApiError> CheckTemplate(const ApiRequest& api, const text::ChatTemplate& chat) {
  if (api.tool_choice == ToolChoice::kAuto && chat.syntax().tools == nullptr) {
    return NotSupported("tools",
                        "this model's chat template has calls written in a way that is not read "
                        "here");
  }
  if (!api.reasoning_effort.empty() && !chat.Mentions(kEffort) && !chat.Mentions(kThinking)) {
    return NotSupported(kEffort, "this model's chat template has no such setting");
  }
  return std::nullopt;
}

StatusOr<std::string> RenderChat(const ApiRequest& api, const text::ChatTemplate& chat) {
  const text::ReplySyntax& syntax = chat.syntax();
  const bool in_words = !api.tools.empty() && !syntax.shows_tools && syntax.tools != nullptr &&
                        api.tool_choice != ToolChoice::kNone;
  if (!in_words) return chat.Render(ChatInputOf(api, api.messages, chat));
  const std::string words = ToolsInWords(api, *syntax.tools);
  std::vector<ApiMessage> messages = api.messages;
  AddToSystem(words, messages);
  StatusOr<std::string> rendered = chat.Render(ChatInputOf(api, messages, chat));
  if (rendered.ok() || api.messages.front().role != "user") return rendered;
  // It may take no system message: then the user says it.
  messages = api.messages;
  messages.front().content = words + "\n\n" + messages.front().content;
  StatusOr<std::string> said = chat.Render(ChatInputOf(api, messages, chat));
  return said.ok() ? said : rendered;
}

std::optional<text::ReplyParser::Options> ReplySyntaxFor(const ApiRequest& api,
                                                         const text::ChatTemplate& chat,
                                                         std::string_view prompt) {
  if (api.endpoint != Endpoint::kChat && api.endpoint != Endpoint::kResponses) return std::nullopt;
  text::ReplyParser::Options options = {.reasoning = chat.syntax().reasoning,
                                        .names = api.tool_names,
                                        .one_call = !api.parallel_tool_calls};
  if (options.reasoning != nullptr) {
    options.reasoning_begun = EndsInReasoning(api, prompt, *options.reasoning);
  }
  if (api.tool_choice != ToolChoice::kNone) options.tools = chat.syntax().tools;
  if (api.must_call() && options.tools == nullptr) options.tools = &text::kPlainCalls;
  if (options.reasoning == nullptr && options.tools == nullptr) return std::nullopt;
  return options;
}

}  // namespace tandem::http
